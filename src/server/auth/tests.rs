//! Valid tokens, and tokens that are invalid in every way.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::keys::SECRET_BYTES_MIN;
use super::*;
use crate::admission::authorize::{self, Admitted, Ask};
use crate::bus::Room;
use crate::limits::TOKEN_KEYS_MAX;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const CLAIMS: &str = r#"{"sub":"alice","exp":2000,"services":["chat","room-*"],"mail":"a@b"}"#;

fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
}

fn jwt(keys: Keys) -> Jwt {
    Jwt::new(keys, JwtPolicy::default())
}

fn of_secret() -> Jwt {
    jwt(Keys::secret(SECRET).expect("long enough"))
}

/// A token with this header and payload, signed with this key and algorithm, whatever the header
/// says.
fn token(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(payload));
    let signature = sign(message.as_bytes(), key, algorithm).expect("it can be signed");
    format!("{message}.{signature}")
}

fn hs256(payload: &str) -> String {
    let key = EncodingKey::from_secret(SECRET);
    token(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        payload,
        &key,
        Algorithm::HS256,
    )
}

#[test]
fn a_good_token_says_who_it_is() {
    let checked = of_secret().check(&hs256(CLAIMS), wall()).expect("good");
    assert_eq!(checked.identity.subject.as_deref(), Some("alice"));
    assert_eq!(checked.identity.claims.as_deref(), Some(CLAIMS));
    let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(2000);
    assert_eq!(checked.identity.expires, Some(expires));
}

#[test]
fn what_is_not_signed_by_us_is_not_believed() {
    let jwt = of_secret();
    let good = hs256(CLAIMS);
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let other = EncodingKey::from_secret(b"another secret of at least 32 bytes");
    let header = r#"{"alg":"HS256"}"#;
    let none = BASE64.encode(r#"{"alg":"none"}"#);
    let payload = BASE64.encode(CLAIMS);
    let changed = format!("{}.{signature}", message.replace("J", "K"));
    for (token, error) in [
        (
            token(header, CLAIMS, &other, Algorithm::HS256),
            TokenError::Signature,
        ),
        (format!("{message}."), TokenError::Signature),
        (format!("{message}.AAAA"), TokenError::Signature),
        (format!("{none}.{payload}."), TokenError::Signature),
        (
            format!("{none}.{payload}.{signature}"),
            TokenError::Signature,
        ),
        (message.to_owned(), TokenError::Malformed),
        (String::new(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        ("a.b.c.d.e".to_owned(), TokenError::Malformed),
        (format!("{good}."), TokenError::Signature),
        ("x".repeat(TOKEN_BYTES_MAX + 1), TokenError::TooLong),
    ] {
        assert_eq!(jwt.check(&token, wall()).map(drop), Err(error), "{token}");
    }
    assert!(jwt.check(&changed, wall()).is_err());
    for alg in ["None", "NONE", "nOnE", "", "HS384", "RS256"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        let key = EncodingKey::from_secret(SECRET);
        let token = token(&header, CLAIMS, &key, Algorithm::HS256);
        assert_eq!(
            jwt.check(&token, wall()).map(drop),
            Err(TokenError::Signature),
            "{alg}"
        );
    }
}

#[test]
fn a_token_of_the_longest_allowed_length_is_looked_at_and_no_longer_one() {
    let jwt = of_secret();
    let padded = |length: usize| hs256(&CLAIMS.replace("a@b", &"m".repeat(length)));
    let fits = (0..).step_by(1).map(|length| padded(6000 + length));
    let longest = fits
        .take_while(|token| token.len() <= TOKEN_BYTES_MAX)
        .last();
    let longest = longest.expect("there is one");
    assert!(longest.len() > TOKEN_BYTES_MAX - 4, "{}", longest.len());
    assert!(jwt.check(&longest, wall()).is_ok());
    let longer = hs256(&CLAIMS.replace("a@b", &"m".repeat(TOKEN_BYTES_MAX)));
    assert_eq!(
        jwt.check(&longer, wall()).map(drop),
        Err(TokenError::TooLong)
    );
}

#[test]
fn a_header_with_conditions_is_not_believed() {
    let key = EncodingKey::from_secret(SECRET);
    let header = r#"{"alg":"HS256","crit":["exp"]}"#;
    let token = token(header, CLAIMS, &key, Algorithm::HS256);
    assert_eq!(
        of_secret().check(&token, wall()).map(drop),
        Err(TokenError::Critical)
    );
}

#[test]
fn a_token_that_is_over_is_not_believed() {
    let over = hs256(r#"{"sub":"alice","exp":1000}"#);
    let error = of_secret().check(&over, wall()).map(drop);
    assert_eq!(error, Err(TokenError::Claim(ClaimError::Expired)));
}

#[test]
fn each_kind_of_key_believes_its_own_algorithm_and_no_other() {
    for (public, private, algorithm) in pairs() {
        let keys = Keys::read(public).unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        let jwt = jwt(keys);
        let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
        let good = token(&header, CLAIMS, &private, algorithm);
        assert!(jwt.check(&good, wall()).is_ok(), "{algorithm:?}");
        // The oldest attack: the public key used as a secret.
        let secret = EncodingKey::from_secret(public.as_bytes());
        let forged = token(r#"{"alg":"HS256"}"#, CLAIMS, &secret, Algorithm::HS256);
        assert_eq!(
            jwt.check(&forged, wall()).map(drop),
            Err(TokenError::Signature)
        );
    }
}

#[test]
fn a_key_of_rsa_is_for_one_algorithm_only() {
    let (public, private, _) = pairs().into_iter().next().expect("RSA is the first");
    let jwt = jwt(Keys::read(public).expect("a key"));
    for algorithm in [Algorithm::RS384, Algorithm::PS256] {
        let header = format!(r#"{{"alg":"{algorithm:?}"}}"#);
        let other = token(&header, CLAIMS, &private, algorithm);
        assert_eq!(
            jwt.check(&other, wall()).map(drop),
            Err(TokenError::Signature)
        );
    }
}

/// Public keys as PEM, each with its private key and its algorithm.
fn pairs() -> Vec<(&'static str, EncodingKey, Algorithm)> {
    let pem = |text: &str| text.as_bytes().to_vec();
    vec![
        (
            include_str!("tests/rsa.pub.pem"),
            EncodingKey::from_rsa_pem(&pem(include_str!("tests/rsa.pem"))).expect("a key"),
            Algorithm::RS256,
        ),
        (
            include_str!("tests/p256.pub.pem"),
            EncodingKey::from_ec_pem(&pem(include_str!("tests/p256.pem"))).expect("a key"),
            Algorithm::ES256,
        ),
        (
            include_str!("tests/p384.pub.pem"),
            EncodingKey::from_ec_pem(&pem(include_str!("tests/p384.pem"))).expect("a key"),
            Algorithm::ES384,
        ),
        (
            include_str!("tests/ed25519.pub.pem"),
            EncodingKey::from_ed_pem(&pem(include_str!("tests/ed25519.pem"))).expect("a key"),
            Algorithm::EdDSA,
        ),
    ]
}

#[test]
fn keys_of_a_file_are_all_read() {
    let mut file = String::new();
    for (public, _, _) in pairs() {
        write!(file, "a comment\n{public}").expect("a string takes everything");
    }
    assert_eq!(Keys::read(&file).map(|keys| keys.len()), Ok(4));
}

#[test]
fn a_jwks_has_keys_with_names_and_leaves_out_what_is_unknown() {
    let secret = BASE64.encode(SECRET);
    let jwks = format!(
        r#"{{"keys":[
            {{"kty":"oct","kid":"a","k":"{secret}"}},
            {{"kty":"oct","kid":"b","k":"{secret}","alg":"HS512"}},
            {{"kty":"oct","kid":"c","k":"c2hvcnQ"}},
            {{"kty":"oct","kid":"d","k":"{secret}","use":"enc"}},
            {{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}},
            {{"kty":"RSA","n":"AQAB","e":"AQAB"}},
            {{"kty":"new"}}
        ]}}"#
    );
    let keys = Keys::read(&jwks).expect("some keys");
    assert_eq!(keys.len(), 2);
    assert_eq!(
        Keys::jwks(&jwks, keys::Secrets::Refused).map(drop),
        Err(KeyError::None)
    );
    let jwt = jwt(keys);
    let key = EncodingKey::from_secret(SECRET);
    for (header, algorithm, good) in [
        (r#"{"alg":"HS256","kid":"a"}"#, Algorithm::HS256, true),
        (r#"{"alg":"HS256"}"#, Algorithm::HS256, true),
        (r#"{"alg":"HS256","kid":"b"}"#, Algorithm::HS256, false),
        (r#"{"alg":"HS256","kid":"x"}"#, Algorithm::HS256, false),
        (r#"{"alg":"HS512","kid":"b"}"#, Algorithm::HS512, true),
    ] {
        let token = token(header, CLAIMS, &key, algorithm);
        assert_eq!(jwt.check(&token, wall()).is_ok(), good, "{header}");
    }
}

#[test]
fn what_is_no_public_key_is_named() {
    for (text, error) in [
        ("", KeyError::Neither),
        ("nonsense", KeyError::Neither),
        ("{", KeyError::Neither),
        ("{\"keys\":1}", KeyError::Neither),
        ("{\"keys\":[]}", KeyError::None),
        (
            "{\"keys\":[{\"kty\":\"RSA\",\"d\":\"x\"}]}",
            KeyError::Private,
        ),
        (include_str!("tests/p256.pem"), KeyError::Private),
    ] {
        assert_eq!(Keys::read(text).map(drop), Err(error), "{text}");
    }
    let short = &SECRET[..SECRET_BYTES_MIN - 1];
    assert_eq!(Keys::secret(short).map(drop), Err(KeyError::ShortSecret));
    let long_enough = &SECRET[..SECRET_BYTES_MIN];
    assert_eq!(Keys::secret(long_enough).map(drop), Ok(()));
}

fn ask(jwt: &Jwt, service: &str, token: Option<&str>) -> Result<Identity, Denied> {
    let service: ServiceName = service.parse().expect("a name");
    asked(jwt, Room::from(&service), token).map(|admitted| admitted.identity)
}

/// The decision about a client of a room whose kind limits its users.
fn asked(jwt: &Jwt, room: Room, token: Option<&str>) -> Result<Admitted, Denied> {
    let ask = Ask {
        room,
        is_user_limited: true,
        token: token.map(Token::new),
        wall: wall(),
    };
    let decided = authorize::admit(Arc::new(jwt.clone()), ask).now_or_never();
    decided.expect("nothing is fetched")
}

fn room(kind: &str, key: &str) -> Room {
    let kind: ServiceName = kind.parse().expect("a name");
    Room::new(&kind, key).expect("a key")
}

#[test]
fn a_room_whose_key_begins_with_a_dollar_needs_a_grant_in_any_case() {
    let joins = [("open", Join::Anyone), ("known", Join::Authenticated)];
    let policy = JwtPolicy {
        services: joins.map(|(name, join)| (name.to_owned(), join)).into(),
        ..JwtPolicy::default()
    };
    let jwt = Jwt::new(Keys::secret(SECRET).expect("long enough"), policy);
    let ask = |kind, key, token| asked(&jwt, room(kind, key), token).map(drop);
    let granted = hs256(r#"{"sub":"ann","exp":2000,"rooms":["open:$1","known:*"]}"#);
    let other = hs256(r#"{"sub":"ann","exp":2000,"rooms":"open:2"}"#);
    for (kind, key, token, expected) in [
        ("open", "1", None, Ok(())),
        ("open", "$1", None, Err(Denied::Unauthorized)),
        ("open", "$1", Some(&other), Err(Denied::Forbidden)),
        ("open", "$1", Some(&granted), Ok(())),
        ("open", "$2", Some(&granted), Err(Denied::Forbidden)),
        ("known", "1", Some(&other), Ok(())),
        ("known", "$1", Some(&other), Err(Denied::Forbidden)),
        ("known", "$1", Some(&granted), Ok(())),
        ("closed", "1", Some(&granted), Err(Denied::Forbidden)),
    ] {
        let decision = ask(kind, key, token.map(String::as_str));
        assert_eq!(decision, expected, "{kind}:{key}");
    }
}

#[test]
fn a_key_that_names_users_lets_them_in_and_others_with_a_grant() {
    let policy = JwtPolicy {
        services: [("open".to_owned(), Join::Anyone)].into(),
        ..JwtPolicy::default()
    };
    let jwt = Jwt::new(Keys::secret(SECRET).expect("long enough"), policy);
    let ann = hs256(r#"{"sub":"ann","exp":2000}"#);
    let granted = hs256(r#"{"sub":"eve","exp":2000,"rooms":"open:a%23bob"}"#);
    for (key, token, expected) in [
        ("a#ann", Some(&ann), Ok(())),
        ("a#bob,ann", Some(&ann), Ok(())),
        ("a#bob#ann", Some(&ann), Ok(())),
        ("a", Some(&ann), Ok(())),
        ("a", None, Ok(())),
        ("a#ann#bob", Some(&ann), Err(Denied::Forbidden)),
        ("a#anna", Some(&ann), Err(Denied::Forbidden)),
        ("a#", Some(&ann), Err(Denied::Forbidden)),
        ("$a#ann", Some(&ann), Err(Denied::Forbidden)),
        ("a#ann", None, Err(Denied::Unauthorized)),
        ("a#", None, Err(Denied::Unauthorized)),
        ("a#bob", Some(&granted), Ok(())),
        ("a#ann", Some(&granted), Err(Denied::Forbidden)),
    ] {
        let decided = asked(&jwt, room("open", key), token.map(String::as_str));
        assert_eq!(decided.map(drop), expected, "{key} {token:?}");
    }
}

#[test]
fn a_client_without_a_token_has_the_rights_of_its_kind() {
    let joins = [("open", Join::Anyone), ("known", Join::Authenticated)];
    let token = hs256(r#"{"sub":"ann","exp":2000}"#);
    for (kind, anonymous, expected) in [
        ("open", None, Ok(None)),
        ("open", Some(Anonymous::All), Ok(None)),
        ("open", Some(Anonymous::Listen), Ok(Some(false))),
        ("open", Some(Anonymous::No), Err(Denied::Unauthorized)),
        ("known", None, Err(Denied::Unauthorized)),
        ("known", Some(Anonymous::Listen), Ok(Some(false))),
        ("known", Some(Anonymous::All), Ok(None)),
    ] {
        let policy = JwtPolicy {
            services: joins.map(|(name, join)| (name.to_owned(), join)).into(),
            anonymous: anonymous
                .map(|it| (kind.to_owned(), it))
                .into_iter()
                .collect(),
            ..JwtPolicy::default()
        };
        let jwt = Jwt::new(Keys::secret(SECRET).expect("long enough"), policy);
        let publish = |token| asked(&jwt, room(kind, "1"), token).map(|it| it.grant.publish);
        assert_eq!(publish(None), expected, "{kind} {anonymous:?}");
        assert_eq!(publish(Some(&token)), Ok(None), "{kind} with a token");
        let secret = asked(&jwt, room(kind, "$1"), None).map(drop);
        assert_eq!(secret, Err(Denied::Unauthorized), "{kind} {anonymous:?}");
    }
}

#[test]
fn who_may_join_is_said_for_each_service() {
    let services = [("open", Join::Anyone), ("known", Join::Authenticated)];
    let services = services.map(|(name, join)| (name.to_owned(), join));
    let policy = JwtPolicy {
        services: services.into(),
        ..JwtPolicy::default()
    };
    let jwt = Jwt::new(Keys::secret(SECRET).expect("long enough"), policy);
    let good = hs256(CLAIMS);
    for (service, token, expected) in [
        ("chat", Some(good.as_str()), Ok(())),
        ("room-7", Some(&good), Ok(())),
        ("ping", Some(&good), Err(Denied::Forbidden)),
        ("ping", None, Err(Denied::Unauthorized)),
        ("chat", Some("x"), Err(Denied::Unauthorized)),
        ("known", Some(&good), Ok(())),
        ("known", None, Err(Denied::Unauthorized)),
        ("open", None, Ok(())),
        ("open", Some(&good), Ok(())),
        ("open", Some("x"), Err(Denied::Unauthorized)),
    ] {
        let decided = ask(&jwt, service, token).map(drop);
        assert_eq!(decided, expected, "{service} {token:?}");
    }
    let anonymous = ask(&jwt, "open", None).expect("allowed");
    assert_eq!(anonymous, Identity::anonymous());
}

/// A JWKS of secrets for HS256 with these names; a secret depends on its index.
fn secrets(names: &[Option<&str>]) -> Keys {
    let key = |(place, name): (usize, &Option<&str>)| {
        let secret = BASE64.encode(secret(place));
        let name = name.map_or_else(String::new, |name| format!(r#""kid":"{name}","#));
        format!(r#"{{"kty":"oct",{name}"k":"{secret}"}}"#)
    };
    let keys: Vec<_> = names.iter().enumerate().map(key).collect();
    let jwks = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    Keys::read(&jwks).expect("some keys")
}

fn secret(place: usize) -> Vec<u8> {
    format!("the secret of the key at {place:>8}").into_bytes()
}

/// A token with this header, signed with the secret at this index.
fn signed_at(header: &str, place: usize) -> String {
    let key = EncodingKey::from_secret(&secret(place));
    token(header, CLAIMS, &key, Algorithm::HS256)
}

/// The indices of the secrets whose signature is accepted under this header.
fn believed(jwt: &Jwt, header: &str, places: usize) -> Vec<usize> {
    let is_believed = |place: &usize| jwt.check(&signed_at(header, *place), wall()).is_ok();
    (0..places).filter(is_believed).collect()
}

#[test]
fn a_token_is_checked_with_a_few_keys_of_its_algorithm_and_with_those_it_names_first() {
    assert_eq!(TOKEN_KEYS_MAX, 4);
    let unnamed = r#"{"alg":"HS256"}"#;
    let named = |name: &str| format!(r#"{{"alg":"HS256","kid":"{name}"}}"#);
    let as_many = jwt(secrets(&[None; 4]));
    assert_eq!(believed(&as_many, unnamed, 4), [0, 1, 2, 3]);
    let more = jwt(secrets(&[None; 32]));
    assert_eq!(believed(&more, unnamed, 32), [0, 1, 2, 3]);
    assert_eq!(believed(&more, &named("x"), 32), [0, 1, 2, 3]);
    let names = [None, None, None, None, Some("b"), Some("a"), Some("b")];
    let some = jwt(secrets(&names));
    assert_eq!(believed(&some, &named("a"), 7), [0, 1, 2, 5]);
    assert_eq!(believed(&some, &named("b"), 7), [0, 1, 4, 6]);
    let same = jwt(secrets(&[Some("a"); 6]));
    assert_eq!(believed(&same, &named("a"), 6), [0, 1, 2, 3]);
    assert_eq!(believed(&same, &named("b"), 6), [0; 0]);
}

#[test]
fn keys_of_other_algorithms_take_no_place_among_those_a_token_is_checked_with() {
    let mut keys = Keys::default();
    for (public, _, _) in pairs() {
        keys = keys.and(Keys::read(&public.repeat(4)).expect("keys"));
    }
    let jwt = jwt(keys.and(Keys::secret(SECRET).expect("long enough")));
    assert!(jwt.check(&hs256(CLAIMS), wall()).is_ok());
}

#[test]
fn no_more_keys_are_tried_than_there_may_be_whichever_source_they_are_from() {
    let (here, there) = (secrets(&[None; 3]), secrets(&[None; 9]));
    for (id, expected) in [(None, 4), (Some("a"), 4)] {
        let tried = Keys::candidates([&here, &there], "HS256", id);
        assert_eq!(tried.count(), expected, "{id:?}");
        assert_eq!(Keys::candidates([&here, &there], "ES256", id).count(), 0);
    }
}

#[test]
fn algorithms_with_more_keys_than_are_tried_are_named() {
    let none = Keys::default();
    assert_eq!(Keys::crowded([&secrets(&[None; 4]), &none]), "");
    assert_eq!(Keys::crowded([&secrets(&[Some("a"); 5]), &none]), "HS256");
    let (three, two) = (secrets(&[None; 3]), secrets(&[None; 2]));
    assert_eq!(Keys::crowded([&three, &two]), "HS256");
    assert_eq!(Keys::crowded([&three, &three.clone().and(none)]), "HS256");
}

/// An authorizer with published keys, of which none is fetched yet, and with a configured secret.
fn of_remote() -> Jwt {
    let url = "http://localhost:1/keys".parse().expect("a URL");
    of_secret().with_remote(Remote::new(url))
}

/// A token signed by an Ed25519 key that is not among the known keys.
fn foreign(header: &str, payload: &str) -> String {
    let key = EncodingKey::from_ed_pem(include_bytes!("tests/ed25519.pem")).expect("a key");
    token(header, payload, &key, Algorithm::EdDSA)
}

#[test]
fn only_a_token_that_a_published_key_may_have_signed_is_worth_a_fetch() {
    let named = r#"{"alg":"EdDSA","kid":"new"}"#;
    let good = foreign(named, CLAIMS);
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let short = &signature[..80];
    for (token, error) in [
        (good.clone(), TokenError::UnknownKey),
        (
            foreign(r#"{"alg":"EdDSA"}"#, CLAIMS),
            TokenError::UnknownKey,
        ),
        (
            foreign(r#"{"alg":"HS256","kid":"new"}"#, CLAIMS),
            TokenError::Signature,
        ),
        (
            foreign(r#"{"alg":"none","kid":"new"}"#, CLAIMS),
            TokenError::Signature,
        ),
        (
            foreign(r#"{"alg":"ES512","kid":"new"}"#, CLAIMS),
            TokenError::Signature,
        ),
        (format!("{message}."), TokenError::Signature),
        (format!("{message}.{short}"), TokenError::Signature),
        (format!("{message}.!{signature}"), TokenError::Signature),
        (foreign(named, "no claims"), TokenError::Signature),
        (foreign(named, r#"{"exp":1000}"#), TokenError::Signature),
        (
            foreign(named, r#"{"exp":2000,"aud":"others"}"#),
            TokenError::Signature,
        ),
    ] {
        let checked = of_remote().check(&token, wall()).map(drop);
        assert_eq!(checked, Err(error), "{token}");
        let alone = of_secret().check(&token, wall()).map(drop);
        assert_eq!(alone, Err(TokenError::Signature), "nothing is published");
    }
}

#[test]
fn a_token_that_names_a_key_of_ours_and_is_not_signed_by_it_causes_no_fetch() {
    let jwt = Jwt::new(secrets(&[Some("ours")]), JwtPolicy::default());
    let jwt = jwt.with_remote(of_remote().remote.expect("it has one"));
    for (name, error) in [
        ("ours", TokenError::Signature),
        ("theirs", TokenError::UnknownKey),
    ] {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{name}"}}"#);
        let checked = jwt.check(&foreign(&header, CLAIMS), wall()).map(drop);
        assert_eq!(checked, Err(error), "{name}");
    }
}

#[test]
fn a_server_that_can_check_no_token_is_not_ready_and_says_why() {
    let remote = of_remote().remote.expect("it has one");
    let services = [("open".to_owned(), Join::Anyone)].into();
    let policy = JwtPolicy {
        services,
        ..JwtPolicy::default()
    };
    let only_published = Jwt::new(Keys::default(), policy).with_remote(remote);
    let readiness = |jwt: &Jwt, service: &str| jwt.readiness(&service.parse().expect("a name"));
    assert_eq!(readiness(&only_published, "open"), Ok(()));
    let NotReady(why) = readiness(&only_published, "chat").expect_err("no token can be checked");
    assert!(why.contains("http://localhost:1/keys"), "{why}");
    assert_eq!(readiness(&of_remote(), "chat"), Ok(()), "by the secret");
    assert_eq!(readiness(&of_secret(), "chat"), Ok(()));
}
