//! The corpus of the fuzz target `plan`, replayed: every plan keeps every rule.

use sim::swarm::guided;

#[test]
fn the_corpus_of_the_plans_passes() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/plan");
    let files = std::fs::read_dir(corpus).expect("the corpus is in the tree");
    let mut count = 0;
    for file in files {
        let path = file.expect("a readable folder").path();
        guided::fuzz(&std::fs::read(path).expect("a readable file"));
        count += 1;
    }
    assert!(count > 0, "the corpus is empty");
}
