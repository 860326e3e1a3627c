//! Continuations: what is drawn, what is printed when, and how well a text is foreseen.

use crate::tokenizer::{END, id, tokenizer};
use ndarray::Axis;
use semisep::Error;
use semisep::mamba2::generate::{Continuation, Draw, Sampling, Text, Tokenizer, perplexity};
use semisep::mamba2::{Config, Model, State, Tokens};
use semisep::nn::Weight;

fn model() -> Model<Weight<f64>> {
    let config = Config { state_dim: 8, head_dim: 8, ..Config::new(16, 2, 48) };
    Model::random(&config, 11).unwrap()
}

fn random(seed: u64) -> Sampling {
    let draw = Draw::Random { temperature: 1.5, top_k: 0, top_p: 0.95, min_p: 0.001, seed };
    Sampling { draw, repetition_penalty: 1.1 }
}

/// `count` tokens after `prompt`, each from all before it anew.
fn without_state(
    model: &Model<Weight<f64>>,
    prompt: &[u32],
    sampling: Sampling,
    row: u64,
    count: usize,
) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        let mut state = State::new(model.config(), 1).unwrap();
        let logits = model.forward(&Tokens::one(&tokens), &mut state).unwrap();
        tokens.push(sampling.choose(logits.row(tokens.len() - 1), &tokens, row).unwrap());
    }
    tokens
}

#[test]
fn sequences_side_by_side_are_those_that_each_is_alone() {
    let model = model();
    let prompts: [&[u32]; 3] = [&[3, 1, 4, 1, 5], &[9], &[2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2]];
    for sampling in [Sampling::default(), random(5)] {
        let mut together = Continuation::new(&model, &prompts, sampling).unwrap();
        for step in 0..12 {
            if step == 4 {
                together.end(1);
            }
            let next = together.step().unwrap();
            assert_eq!(next[1].is_some(), step < 4);
            assert_eq!(next[0], together.tokens(0).last().copied());
        }
        for (k, (prompt, count)) in prompts.iter().zip([12, 4, 12]).enumerate() {
            assert_eq!(together.tokens(k), without_state(&model, prompt, sampling, k as u64, count), "{k}");
        }
        assert!(!together.has_ended());
        (0..3).for_each(|k| together.end(k));
        assert!(together.has_ended());
        assert_eq!(together.step().unwrap(), [None; 3]);
    }
}

#[test]
fn the_seed_decides() {
    let model = model();
    let sequence = |seed| {
        let mut one = Continuation::new(&model, &[[7_u32]], random(seed)).unwrap();
        (0..20).for_each(|_| drop(one.step().unwrap()));
        one.tokens(0).to_vec()
    };
    assert_eq!(sequence(1), sequence(1));
    assert_ne!(sequence(1), sequence(2));
}

#[test]
fn prompts_that_cannot_be_are_refused() {
    let model = model();
    let new = |prompts: &[&[u32]], sampling| Continuation::new(&model, prompts, sampling).map(|_| ());
    for prompts in [&[][..], &[&[][..]], &[&[1][..], &[]], &[&[48][..]]] {
        assert!(matches!(new(prompts, Sampling::default()), Err(Error::Value { .. })), "{prompts:?}");
    }
    let wrong = Sampling { repetition_penalty: 0.0, ..Sampling::default() };
    assert!(matches!(new(&[&[1]], wrong), Err(Error::Config { field: "repetition_penalty", .. })));
}

#[test]
fn perplexity_is_the_mean_surprise_at_every_token() {
    let model = model();
    let ids: Vec<u32> = (0..4500).map(|t: u32| (t * t + t / 7) % 48).collect(); // longer than two pieces
    let logits = model.forward(&Tokens::one(&ids), &mut State::new(model.config(), 1).unwrap()).unwrap();
    let surprise: f64 = (logits.axis_iter(Axis(0)).zip(&ids[1..]))
        .map(|(l, &next)| l.fold(0.0, |sum, v| sum + v.exp()).ln() - l[next as usize])
        .sum();
    let mut heard = Vec::new();
    let found = perplexity(&model, &ids, |count| heard.push(count)).unwrap();
    assert_eq!(found.count, 4499);
    assert!((found.surprise - surprise).abs() < 1e-8 * surprise);
    assert!((found.value() - (surprise / 4499.0).exp()).abs() < 1e-8 * found.value());
    assert_eq!(heard.last(), Some(&4499));
    for ids in [&[][..], &[1], &[1, 48]] {
        assert!(matches!(perplexity(&model, ids, |_| {}), Err(Error::Value { .. })), "{ids:?}");
    }
}

/// What comes out token by token, and what at the end.
fn stream(tokenizer: &Tokenizer, ids: &[u32], stops: &[&str]) -> (Vec<String>, String, bool) {
    let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
    let mut text = Text::new(tokenizer, &stops);
    let pieces = ids.iter().map(|&id| text.push(id).unwrap()).collect();
    let stopped = text.has_stopped();
    (pieces, text.finish().unwrap(), stopped)
}

#[test]
fn text_comes_back_as_it_went() {
    let (_folder, tokenizer) = tokenizer();
    for text in ["hello world", "a  b", "é", "caféé at the sea", ""] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let (pieces, rest, _) = stream(&tokenizer, &ids, &[]);
        assert_eq!(pieces.concat() + &rest, text);
    }
}

#[test]
fn characters_come_whole_and_as_soon_as_they_are() {
    let (_folder, tokenizer) = tokenizer();
    let ids = tokenizer.encode("aéb").unwrap();
    assert_eq!(ids.len(), 4, "a token for each byte");
    assert_eq!(stream(&tokenizer, &ids, &[]).0, ["a", "", "é", "b"]);
    let (pieces, rest, _) = stream(&tokenizer, &ids[..2], &[]);
    assert_eq!((pieces.concat(), rest), ("a".into(), "\u{fffd}".into()), "half a character at the end");
    let with_sign = [id("a"), END, id("b")];
    assert_eq!(stream(&tokenizer, &with_sign, &[]).0, ["a", "", "b"], "signs have no text");
}

#[test]
fn text_ends_before_the_first_stop_and_holds_back_what_may_become_one() {
    let (_folder, tokenizer) = tokenizer();
    let ids = tokenizer.encode("one two three").unwrap();
    let (pieces, rest, stopped) = stream(&tokenizer, &ids, &["two", "wo t"]);
    assert_eq!((pieces.concat(), rest, stopped), ("one ".into(), String::new(), true));
    let (pieces, rest, stopped) = stream(&tokenizer, &ids, &["twx", "threee"]);
    assert_eq!((pieces.concat(), rest, stopped), ("one two ".into(), "three".into(), false));
    let (pieces, ..) = stream(&tokenizer, &ids[..7], &["twx"]);
    assert_eq!(pieces[3..], [" ", "", "", "two"]);
    let (pieces, rest, stopped) = stream(&tokenizer, &ids, &[""]);
    assert_eq!((pieces.concat() + &rest, stopped), ("one two three".into(), false));
}

#[test]
fn a_tokenizer_that_is_none_or_of_another_model_is_refused() {
    let (folder, tokenizer) = tokenizer();
    assert!(tokenizer.check(40).is_ok());
    let wrong = tokenizer.check(20).unwrap_err().to_string();
    assert!(wrong.contains("tokenizer.json") && wrong.contains("at most 20 tokens"), "{wrong}");
    let path = folder.path().join("other.json");
    assert!(matches!(Tokenizer::open(&path), Err(Error::File { .. })));
    std::fs::write(&path, "{}").unwrap();
    assert!(matches!(Tokenizer::open(&path), Err(Error::File { .. })));
}
