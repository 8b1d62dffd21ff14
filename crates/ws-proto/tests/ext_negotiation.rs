//! Which permessage-deflate is agreed on, by either side (RFC 7692 5 and 7.1).

use proptest::prelude::*;
use ws_proto::ext::deflate::{self, Agreed};
use ws_proto::ext::{self, Error};

/// As a server, by what our side wants of permessage-deflate alone.
fn negotiate_server(lines: &[&[u8]], config: &deflate::Config) -> Option<(Agreed, String)> {
    let (agreed, text) = ext::negotiate_server(lines, &wanting(config))?;
    Some((deflate(agreed), text))
}

fn deflate(agreed: ext::Agreed) -> Agreed {
    match agreed {
        ext::Agreed::Deflate(agreed) => agreed,
        other => panic!("{other:?}"),
    }
}

/// As a client.
fn client_offer(config: &deflate::Config) -> String {
    ext::client_offer(&wanting(config)).expect("an offer")
}

fn accept_response(lines: &[&[u8]], config: &deflate::Config) -> Result<Option<Agreed>, Error> {
    let agreed = ext::accept_response(lines, &wanting(config))?;
    Ok(agreed.map(deflate))
}

fn wanting(config: &deflate::Config) -> ext::Config {
    config.clone().into()
}

#[test]
fn what_is_not_wanted_is_neither_offered_nor_taken() {
    let none = ext::Config::default();
    assert_eq!(ext::client_offer(&none), None);
    assert_eq!(ext::negotiate_server(&[b"permessage-deflate"], &none), None);
    assert_eq!(ext::accept_response(&[], &none), Ok(None));
    assert_eq!(ext::accept_response(&[b"permessage-deflate"], &none), Err(Error::NotOffered));
}

fn ours() -> deflate::Config {
    deflate::Config::default()
}

/// The server's answer to these header lines.
fn answer(lines: &[&str], config: &deflate::Config) -> Option<String> {
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    negotiate_server(&lines, config).map(|(_, text)| text)
}

/// Whether a client takes this answer: takeover of server and client, window bits of both.
fn accept(line: &str, config: &deflate::Config) -> Result<(bool, bool, u8, u8), Error> {
    accept_response(&[line.as_bytes()], config).map(|agreed| {
        let agreed = agreed.expect("an extension");
        (
            !agreed.server_no_context_takeover,
            !agreed.client_no_context_takeover,
            agreed.server_max_window_bits,
            agreed.client_max_window_bits,
        )
    })
}

#[test]
fn a_server_answers_what_it_is_offered() {
    for (offer, expected) in [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits=10",
            "permessage-deflate; client_max_window_bits=10",
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=8",
        ),
        (
            "permessage-deflate;server_max_window_bits=\"10\"",
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            "permessage-deflate;server_max_window_bits=\"1\\0\"",
            "permessage-deflate; server_max_window_bits=10",
        ),
        (
            "permessage-deflate ;\tserver_max_window_bits=15",
            "permessage-deflate; server_max_window_bits=15",
        ),
        (
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=8",
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
    ] {
        assert_eq!(answer(&[offer], &ours()).as_deref(), Some(expected), "{offer}");
    }
}

#[test]
fn a_server_asks_for_what_it_wants() {
    let config = deflate::Config {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 12,
        client_max_window_bits: 8,
        ..ours()
    };
    let base = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for (offer, windows) in [
        // A client that does not know the parameter must not be sent it.
        ("permessage-deflate", "; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits",
            "; server_max_window_bits=12; client_max_window_bits=9",
        ),
        (
            "permessage-deflate; client_max_window_bits=8; server_max_window_bits=11",
            "; server_max_window_bits=11; client_max_window_bits=8",
        ),
        (
            "permessage-deflate; server_max_window_bits=14; client_max_window_bits=14",
            "; server_max_window_bits=12; client_max_window_bits=9",
        ),
    ] {
        assert_eq!(answer(&[offer], &config), Some([base, windows].concat()), "{offer}");
    }
    let lines: &[&[u8]] = &[b"permessage-deflate"];
    let (agreed, _) = negotiate_server(lines, &config).unwrap();
    assert_eq!((agreed.server_max_window_bits, agreed.client_max_window_bits), (12, 15));
}

#[test]
fn settings_outside_their_range_count_as_the_nearest() {
    let config = deflate::Config {
        level: 77,
        server_max_window_bits: 3,
        client_max_window_bits: 99,
        ..ours()
    };
    let offer: &[&[u8]] = &[b"permessage-deflate; client_max_window_bits"];
    let (agreed, text) = negotiate_server(offer, &config).unwrap();
    assert_eq!((agreed.level, agreed.client_max_window_bits), (9, 15));
    assert_eq!(text, "permessage-deflate; server_max_window_bits=8");
    assert_eq!(
        client_offer(&deflate::Config { server_max_window_bits: 0, ..ours() }),
        "permessage-deflate; server_max_window_bits=8; client_max_window_bits"
    );
}

const BAD_PARAMETERS: &[&str] = &[
    "unknown",
    "unknown=1",
    "server_no_context_takeover=1",
    "client_no_context_takeover=true",
    "client_no_context_takeover=\"\"",
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits",
    "server_max_window_bits=",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=08",
    "server_max_window_bits=+9",
    "server_max_window_bits=1a",
    "server_max_window_bits=110",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=0",
    "client_max_window_bits=9; client_max_window_bits=9",
    "client_max_window_bits; client_max_window_bits",
    "client_max_window_bits = \"9",
    "client_max_window_bits=\"9\\",
    "client_max_window_bits=\"9\"x",
    "client_max_window_bits=\" 9\"",
    "",
    ";",
    "=9",
    "server max window bits=9",
    "SERVER_MAX_WINDOW_BITS=9",
];

#[test]
fn a_bad_offer_is_declined_and_the_next_is_tried() {
    for bad in BAD_PARAMETERS {
        let bad = format!("permessage-deflate; {bad}");
        assert_eq!(answer(&[&bad], &ours()), None, "{bad}");
        // An open quote swallows the rest of its line, and no more.
        let good = "permessage-deflate; server_max_window_bits=10";
        let expected = Some(good.to_string());
        assert_eq!(answer(&[&bad, good], &ours()), expected, "{bad}, on the next line");
        if !bad.contains("\"9") || bad.ends_with("x") {
            let line = format!("{bad}, {good}");
            assert_eq!(answer(&[&line], &ours()), expected, "{line}");
        }
    }
}

#[test]
fn offers_are_tried_in_the_clients_order() {
    let lines = &[
        "x-webkit-deflate-frame, permessage-bzip2; a=\"b, permessage-deflate\", ,",
        "permessage-deflate; client_max_window_bits=11 , permessage-deflate",
    ];
    let expected = "permessage-deflate; client_max_window_bits=11";
    assert_eq!(answer(lines, &ours()).as_deref(), Some(expected));
}

#[test]
fn what_is_no_offer_of_ours_is_left_alone() {
    for line in ["", ",", ";", "PERMESSAGE-DEFLATE", "permessage-deflate2", "a b", "\"", "\\"] {
        assert_eq!(answer(&[line], &ours()), None, "{line}");
    }
    assert_eq!(answer(&[], &ours()), None);
}

#[test]
fn a_client_offers_what_its_settings_say() {
    assert_eq!(client_offer(&ours()), "permessage-deflate; client_max_window_bits");
    let config = deflate::Config {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_max_window_bits: 10,
        client_max_window_bits: 9,
        ..ours()
    };
    assert_eq!(
        client_offer(&config),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=9"
    );
}

#[test]
fn a_client_takes_answers_to_its_offer() {
    let narrow = deflate::Config { client_max_window_bits: 10, ..ours() };
    for (line, config, expected) in [
        ("permessage-deflate", ours(), (true, true, 15, 15)),
        ("permessage-deflate; server_no_context_takeover", ours(), (false, true, 15, 15)),
        ("permessage-deflate; client_no_context_takeover", ours(), (true, false, 15, 15)),
        ("permessage-deflate; server_max_window_bits=\"8\"", ours(), (true, true, 8, 15)),
        ("permessage-deflate; client_max_window_bits=8", ours(), (true, true, 15, 8)),
        // What we offered to keep to, we keep to.
        ("permessage-deflate", narrow.clone(), (true, true, 15, 10)),
        ("permessage-deflate; client_max_window_bits=9", narrow, (true, true, 15, 9)),
        (
            "permessage-deflate",
            deflate::Config { client_no_context_takeover: true, ..ours() },
            (true, false, 15, 15),
        ),
    ] {
        assert_eq!(accept(line, &config), Ok(expected), "{line}");
    }
    assert_eq!(accept_response(&[], &ours()), Ok(None));
    assert_eq!(accept_response(&[b" , "], &ours()), Ok(None));
}

#[test]
fn a_client_gives_up_on_answers_to_another_offer() {
    for bad in BAD_PARAMETERS {
        assert!(accept(&format!("permessage-deflate; {bad}"), &ours()).is_err(), "{bad}");
    }
    let strict = deflate::Config { server_no_context_takeover: true, ..ours() };
    let narrow =
        deflate::Config { server_max_window_bits: 10, client_max_window_bits: 10, ..ours() };
    for (line, config, error, text) in [
        ("foo", ours(), Error::NotOffered, "extension was not offered"),
        (
            "permessage-deflate, permessage-deflate",
            ours(),
            Error::Several,
            "more than one extension",
        ),
        ("permessage-deflate; a=\"", ours(), Error::Malformed, "malformed extensions"),
        ("permessage-deflate; a", ours(), Error::UnknownParameter, "unknown extension parameter"),
        (
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            ours(),
            Error::RepeatedParameter,
            "repeated extension parameter",
        ),
        (
            "permessage-deflate; client_max_window_bits",
            ours(),
            Error::BadValue("client_max_window_bits"),
            "bad value of extension parameter client_max_window_bits",
        ),
        (
            "permessage-deflate",
            strict,
            Error::NotGranted("server_no_context_takeover"),
            "extension parameter server_no_context_takeover not granted",
        ),
        (
            "permessage-deflate",
            narrow.clone(),
            Error::NotGranted("server_max_window_bits"),
            "extension parameter server_max_window_bits not granted",
        ),
        (
            "permessage-deflate; server_max_window_bits=11",
            narrow.clone(),
            Error::BadValue("server_max_window_bits"),
            "bad value of extension parameter server_max_window_bits",
        ),
        (
            "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11",
            narrow,
            Error::BadValue("client_max_window_bits"),
            "bad value of extension parameter client_max_window_bits",
        ),
    ] {
        assert_eq!(accept(line, &config), Err(error), "{line}");
        assert_eq!(error.to_string(), text);
    }
}

fn any_config() -> impl Strategy<Value = deflate::Config> {
    (any::<(bool, bool)>(), 8..16u8, 8..16u8).prop_map(|(no_context, server, client)| {
        deflate::Config {
            server_no_context_takeover: no_context.0,
            client_no_context_takeover: no_context.1,
            server_max_window_bits: server,
            client_max_window_bits: client,
            ..ours()
        }
    })
}

proptest! {
    /// Our client and our server always agree, on the same, and on no more than either wants.
    #[test]
    fn both_sides_agree(client in any_config(), server in any_config()) {
        let offer = client_offer(&client);
        let (here, text) = negotiate_server(&[offer.as_bytes()], &server).unwrap();
        let there = accept_response(&[text.as_bytes()], &client).unwrap().unwrap();
        prop_assert_eq!(&here, &there);
        prop_assert!(here.server_max_window_bits
            <= client.server_max_window_bits.min(server.server_max_window_bits));
        prop_assert!(here.client_max_window_bits
            <= client.client_max_window_bits.min(server.client_max_window_bits.max(9)));
        prop_assert_eq!(
            here.server_no_context_takeover,
            client.server_no_context_takeover || server.server_no_context_takeover
        );
    }

    #[test]
    fn any_bytes_are_survived(
        line in prop::collection::vec(prop_oneof![
            Just(b"permessage-deflate".to_vec()),
            Just(b"client_max_window_bits".to_vec()),
            "[;,=\"\\\\ 019]".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..3),
        ], 0..20),
    ) {
        let line = line.concat();
        if let Some((agreed, _)) = negotiate_server(&[&line], &ours()) {
            prop_assert!((8..=15).contains(&agreed.server_max_window_bits));
            prop_assert!((8..=15).contains(&agreed.client_max_window_bits));
        }
        let _ = accept_response(&[&line], &ours());
    }
}
