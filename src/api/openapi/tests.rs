//! The document against the parser and the bounds, without a server.

use jsonschema::Validator;

use super::*;
use crate::api::Call;

fn whole() -> Value {
    document(&ApiLimits::default())
}

/// The validator of a schema of the document.
fn validator(document: &Value, schema: &Value) -> Validator {
    let mut whole = document.clone();
    whole["$defs"] = json!({ "it": schema });
    whole["$ref"] = json!("#/$defs/it");
    jsonschema::draft202012::new(&whole).expect("a schema")
}

fn call_of(document: &Value, method: Method) -> &Value {
    let path = format!("/api/{}", method.name());
    document["paths"]
        .get(&path)
        .map_or_else(|| panic!("no path {path}"), |path| &path["post"])
}

fn params_of(document: &Value, method: Method) -> Validator {
    let body = &call_of(document, method)["requestBody"]["content"];
    validator(document, &body["application/json"]["schema"])
}

#[test]
fn every_method_has_a_path_and_its_examples_are_of_its_schemas() {
    let document = whole();
    for method in Method::ALL {
        let call = call_of(&document, method);
        assert_eq!(call["operationId"], method.name());
        for content in [&call["requestBody"], &call["responses"]["200"]] {
            let content = &content["content"]["application/json"];
            let validator = validator(&document, &content["schema"]);
            let example = &content["example"];
            let fault = validator.validate(example).err();
            assert!(fault.is_none(), "{method:?} {example}: {fault:?}");
            assert!(!validator.is_valid(&json!([])), "{method:?}");
        }
    }
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), Method::ALL.len() + 2);
}

/// Values of every type, at and beyond the bounds of numbers.
fn values() -> Vec<Value> {
    let mut values = vec![
        json!(1e300),
        json!(-1.5),
        json!({ "a": 1 }),
        json!({ "a": "b" }),
    ];
    values.extend([
        json!(u64::MAX),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(0),
        json!(-1),
    ]);
    values.extend([
        json!(""),
        json!("a"),
        json!(true),
        json!(null),
        json!([]),
        json!([null]),
    ]);
    values.extend([
        json!(["a"]),
        json!([{ "info": {} }]),
        json!([{ "info": null, "x": 1 }]),
    ]);
    values.extend([
        json!([{ "info": {}, "channels": {} }]),
        json!([{ "batch": {} }]),
        json!({}),
    ]);
    values.extend([
        json!({ "offset": -1 }),
        json!({ "offset": null }),
        json!({ "epoch": 1 }),
    ]);
    values.extend([
        json!({ "code": 4000, "reason": null }),
        json!({ "code": 4000 }),
    ]);
    values
}

#[test]
fn parameters_of_the_schema_are_parsed() {
    let document = whole();
    let (mut valid, mut unparsed) = (0, 0);
    for method in Method::ALL {
        let validator = params_of(&document, method);
        let example = example::params(method);
        let schema = &document["components"]["schemas"][format!("{method:?}Params")];
        let named = schema["properties"].as_object().into_iter().flatten();
        let names: Vec<_> = named.map(|(name, _)| name.clone()).collect();
        let room = ["channel".to_owned()];
        for name in names.iter().chain(&room) {
            for value in values() {
                let mut params = example.clone();
                params[name] = value;
                let is_valid = validator.is_valid(&params);
                let parsed = Call::parse(method, params.to_string().as_bytes());
                assert!(
                    !is_valid || parsed.is_ok(),
                    "{method:?} {params}: {parsed:?}"
                );
                valid += u32::from(is_valid);
                unparsed += u32::from(parsed.is_err());
            }
        }
    }
    assert!(valid > 200 && unparsed > 200, "{valid} {unparsed}");
}

#[test]
fn a_member_that_may_be_left_out_may_be_null_and_another_may_not() {
    let document = whole();
    for (method, name, may) in [
        (Method::Publish, "channel", false),
        (Method::Publish, "data", true),
        (Method::Publish, "tags", true),
        (Method::Publish, "version", true),
        (Method::Broadcast, "channels", false),
        (Method::History, "since", true),
        (Method::Disconnect, "disconnect", true),
        (Method::Batch, "commands", true),
    ] {
        let mut params = example::params(method);
        params[name] = json!(null);
        let is_valid = params_of(&document, method).is_valid(&params);
        assert_eq!(is_valid, may, "{method:?} {name}");
    }
}

#[test]
fn the_bounds_are_those_that_are_enforced() {
    let limits = ApiLimits {
        batch: 2,
        broadcast: 3,
        ..ApiLimits::default()
    };
    let document = document(&limits);
    let is_valid = |method, params: Value| params_of(&document, method).is_valid(&params);
    let publish = |name: &str, value: Value| {
        is_valid(
            Method::Publish,
            json!({ "channel": "news:1", "data": 1, (name): value }),
        )
    };
    for (bytes, may) in [(0, false), (1, true), (255, true), (256, false)] {
        assert_eq!(publish("channel", json!("c".repeat(bytes))), may, "{bytes}");
    }
    assert!(!publish("channel", json!("news:\u{e9}")) && !publish("channel", json!("a\n")));
    for name in ["idempotency_key", "version_epoch"] {
        assert!(publish(name, json!("k".repeat(256))) && !publish(name, json!("k".repeat(257))));
    }
    assert!(!is_valid(
        Method::Publish,
        json!({ "channel": "news:1", "b64data": "" })
    ));
    for text in ["", "/w==", "AQI=", "AQID", "AQIDBA=="] {
        assert!(publish("b64data", json!(text)), "{text}");
    }
    for text in ["A", "AQ", "AQ=", "AR==", "AQJ=", "AQID=", "A Q=", "_w=="] {
        assert!(!publish("b64data", json!(text)), "{text}");
    }
    for count in [2, 3] {
        let commands = vec![json!({ "info": {} }); count];
        assert_eq!(
            is_valid(Method::Batch, json!({ "commands": commands })),
            count == 2
        );
    }
    for count in [0, 3, 4] {
        let broadcast = json!({ "channels": vec!["news:1"; count], "data": 1 });
        assert_eq!(is_valid(Method::Broadcast, broadcast), count == 3);
    }
    let pattern = |bytes: usize| json!({ "pattern": "p".repeat(bytes) });
    assert!(is_valid(Method::Channels, pattern(255)) && !is_valid(Method::Channels, pattern(256)));
    assert!(!is_valid(
        Method::Disconnect,
        json!({ "user": "", "client": null })
    ));
    assert!(!is_valid(
        Method::Refresh,
        json!({ "user": "ann", "session": "s" })
    ));
}

#[test]
fn a_code_is_one_with_which_a_connection_may_be_closed() {
    let document = whole();
    let validator = params_of(&document, Method::Disconnect);
    for code in -1..=70_000 {
        let params = json!({ "user": "ann", "disconnect": { "code": code } });
        let expected = matches!(code, 1000..=1003 | 1007..=1014 | 3001..=4999);
        assert_eq!(validator.is_valid(&params), expected, "{code}");
    }
    for (bytes, may) in [(123, true), (124, false)] {
        let close = json!({ "code": 4000, "reason": "r".repeat(bytes) });
        let params = json!({ "user": "ann", "disconnect": close });
        assert_eq!(validator.is_valid(&params), may, "{bytes}");
    }
}
