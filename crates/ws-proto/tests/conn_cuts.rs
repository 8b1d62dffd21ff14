//! However the bytes are cut, and whichever way the payload takes, the events are the same.

mod common;

use common::{any_key, cuts, frame, frames, messages, payload, run, run_cut, Seen};
use proptest::prelude::*;
use ws_proto::{close, opcode, Settings, Style};

/// Always, never, or in turns.
fn direct() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(0xFF), any::<u8>()]
}

fn any_style() -> impl Strategy<Value = Settings> {
    prop_oneof![Just(frames()), Just(messages())]
}

/// Whole messages with their frames, and control frames between the fragments.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<Seen>)> {
    let control = prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..126));
    let part = (any::<prop::sample::Index>(), any_key(), control);
    let data = prop_oneof![
        payload().prop_map(|bytes| (opcode::BINARY, bytes)),
        "[a-zé€😀]{0,60}".prop_map(|text| (opcode::TEXT, text.into_bytes())),
    ];
    let message = (data, prop::collection::vec(part, 1..5));
    prop::collection::vec(message, 0..5).prop_map(|list| {
        let (mut wire, mut seen) = (Vec::new(), Vec::new());
        for ((kind, data), parts) in list {
            let mut ends: Vec<_> = parts.iter().map(|p| p.0.index(data.len() + 1)).collect();
            ends.sort_unstable();
            *ends.last_mut().unwrap() = data.len();
            let mut start = 0;
            for (i, (end, (_, key, control))) in ends.iter().zip(parts).enumerate() {
                let code = if i == 0 { kind } else { opcode::CONTINUATION };
                if let Some(control) = control {
                    wire.extend(frame(true, opcode::PING, &control, key));
                    seen.push(Seen::Ping(control));
                }
                wire.extend(frame(i + 1 == ends.len(), code, &data[start..*end], key));
                start = *end;
            }
            let whole = if kind == opcode::TEXT { Seen::Text } else { Seen::Binary };
            seen.push(whole(data));
        }
        wire.extend(frame(true, opcode::CLOSE, &close::encode(Some(1000), b"done"), None));
        seen.push(Seen::Close(Some(1000), b"done".to_vec()));
        (wire, seen)
    })
}

/// Bytes that look like frames for a while.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![9 => prop::sample::select(vec![0u8, 1, 2, 8, 9, 10]), 1 => 0..16u8];
    let good = (any::<bool>(), opcode, prop::collection::vec(any::<u8>(), 0..140), any_key())
        .prop_map(|(fin, opcode, payload, key)| {
            let fin = fin || (opcode & 8 != 0 && payload.len() % 8 != 0);
            frame(fin, opcode, &payload, key)
        });
    let raw = prop::collection::vec(any::<u8>(), 0..16);
    prop::collection::vec(prop_oneof![8 => good, 1 => raw], 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn conversations((wire, expected) in conversation(), cuts in cuts(), direct in direct()) {
        let outcome = run_cut(messages(), &wire, cuts, direct);
        prop_assert_eq!(outcome, (expected, None));
    }

    #[test]
    fn frames_round_trip(
        list in prop::collection::vec((any::<bool>(), 0..3u8, payload(), any_key()), 0..6),
        cuts in cuts(),
        direct in direct(),
    ) {
        let wire: Vec<u8> =
            list.iter().flat_map(|(fin, code, data, key)| frame(*fin, *code, data, *key)).collect();
        let expected: Vec<_> =
            list.into_iter().map(|(fin, code, data, _)| Seen::Frame(fin, code, data)).collect();
        prop_assert_eq!(run_cut(frames(), &wire, cuts, direct), (expected, None));
    }

    #[test]
    fn noise_is_judged_alike(
        settings in any_style(),
        wire in noise(),
        cuts in cuts(),
        direct in direct(),
    ) {
        let whole = run(settings, &wire);
        prop_assert_eq!(run_cut(settings, &wire, cuts, direct), whole);
    }

    #[test]
    fn limits_are_judged_alike(wire in noise(), cuts in cuts(), direct in direct()) {
        let narrow = Settings {
            max_frame: 60,
            max_message: 90,
            max_fragments: 2,
            ..common::settings(Style::Messages)
        };
        prop_assert_eq!(run_cut(narrow, &wire, cuts, direct), run(narrow, &wire));
    }
}
