//! Inputs from the corpus: rules whose trees are cut and grafted, payloads whose values are exchanged and multiplied, and
//! texts of every sort with pieces removed, doubled and swapped.

use std::sync::Arc;

use hedgerow_sql::ast::{BinaryOp, Dialect, Expr, ExprKind, Items, Select, Span, Subquery};
use hedgerow_sql::functions::{self, Purity};
use hedgerow_sql::parse::print_select;
use hedgerow_sql::value::Value;

use super::corpus::Corpus;
use super::input::{Input, Target};
use super::random::Random;

/// No text is made longer than this.
const MAX_BYTES: usize = 256 << 10;
/// How often a piece may be repeated.
const REPEATS: [usize; 6] = [2, 3, 16, 130, 1000, 20_000];

/// Numbers and texts at the edges.
const NUMBERS: [&str; 14] = [
    "0",
    "-0",
    "1e999999999",
    "-9e-999999999",
    "9.9e999",
    "1e-999",
    "9999999999999999999999999999999999",
    "99999999999999999999999999999999995",
    "9223372036854775808",
    "-9223372036854775809",
    "0.1",
    "-1",
    "1e9",
    "170141183460469231731687303715884105728",
];
const TEXTS: [&str; 12] = ["", "a", "true", "12.50", "-1e3", "€", "😀", "null", "base64", "${a}", "x\\\\", "\\u0000"];

pub fn input(corpus: &Corpus, random: &mut Random) -> Input {
    match random.below(12) {
        0 | 1 => reading(corpus, random),
        2 | 3 => payloads(corpus, random),
        4 => Input { target: Target::Expressions, texts: patterns(corpus, random) },
        5 => Input { target: Target::Times, texts: patterns(corpus, random) },
        _ => rule(corpus, random),
    }
}

fn reading(corpus: &Corpus, random: &mut Random) -> Input {
    let mut text = random.pick(&corpus.texts).clone().into_bytes();
    for _ in 0..=random.below(4) {
        edit(&mut text, corpus, random);
    }
    Input { target: Target::Reading, texts: vec![text] }
}

fn patterns(corpus: &Corpus, random: &mut Random) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = (0..3).map(|_| random.pick(&corpus.patterns).clone().into_bytes()).collect();
    if random.once_in(3) {
        // Something that patterns have to work on.
        let piece = random.pick(&["a", "ab", "aaaa1", "x y ", "😀", "0", "aA.", "\n"]).repeat(*random.pick(&REPEATS));
        texts[0] = piece.into_bytes();
        texts[0].truncate(MAX_BYTES);
        texts[0].extend_from_slice(b"b");
    }
    for text in &mut texts {
        for _ in 0..random.below(3) {
            edit(text, corpus, random);
        }
    }
    texts
}

fn payloads(corpus: &Corpus, random: &mut Random) -> Input {
    let first = payload(corpus, random);
    // Several like it, so that a shape is learned, and then what is not quite like it.
    let mut texts = vec![first.clone(); 4];
    for _ in 0..4 {
        let mut other = first.clone();
        exchange(&mut other, random);
        if random.once_in(2) {
            edit(&mut other, corpus, random);
        }
        texts.push(other);
    }
    Input { target: Target::Payloads, texts }
}

fn payload(corpus: &Corpus, random: &mut Random) -> Vec<u8> {
    let mut text = random.pick(&corpus.payloads).clone().into_bytes();
    for _ in 0..random.below(4) {
        if random.once_in(4) { edit(&mut text, corpus, random) } else { exchange(&mut text, random) }
    }
    text
}

fn rule(corpus: &Corpus, random: &mut Random) -> Input {
    let (dialect, select) = random.pick(&corpus.statements);
    let (mut dialect, mut select) = (*dialect, select.clone());
    if random.once_in(4) {
        dialect = *random.pick(&[Dialect::Aws2015, Dialect::Aws2016, Dialect::Native]);
    }
    for _ in 0..random.below(4) {
        graft(&mut select, corpus, random);
    }
    if !random.once_in(8) {
        select.from = Some((Arc::from("a/#"), Span::default()));
    }
    let sql = print_select(&select, dialect).into_bytes();
    let template = random.pick(&corpus.templates).clone().into_bytes();
    Input { target: Target::Rule(dialect), texts: vec![sql, template, payload(corpus, random)] }
}

/// Exchanges a part of a statement for another expression, or puts something around it.
fn graft(select: &mut Select, corpus: &Corpus, random: &mut Random) {
    let exprs = |select: &Select| {
        let mut count = 0;
        select.exprs().for_each(|expr| visit(expr, &mut |_| count += 1));
        count
    };
    let count = exprs(select);
    if count == 0 || random.once_in(6) {
        select.filter = Some(random.pick(&corpus.exprs).clone());
        return;
    }
    let chosen = random.below(count);
    let mut at = 0;
    let change = |expr: &mut Expr, random: &mut Random| *expr = changed(expr.clone(), corpus, random);
    for expr in select.exprs_mut() {
        visit_mut(expr, &mut |expr| {
            if at == chosen {
                change(expr, random);
            }
            at += 1;
            at <= chosen
        });
    }
}

fn visit(expr: &Expr, see: &mut dyn FnMut(&Expr)) {
    see(expr);
    expr.for_each_child(|child| visit(child, see));
}

/// Goes down as long as `see` says so.
fn visit_mut(expr: &mut Expr, see: &mut dyn FnMut(&mut Expr) -> bool) {
    if see(expr) {
        expr.for_each_child_mut(|child| visit_mut(child, see));
    }
}

fn of(kind: ExprKind) -> Expr {
    Expr { kind, span: Span::default() }
}

fn changed(expr: Expr, corpus: &Corpus, random: &mut Random) -> Expr {
    use BinaryOp::{Add, And, Div, Eq, Ge, In, Lt, Mul, Ne, Or, Rem, Sub};
    let other = random.pick(&corpus.exprs).clone();
    // A `*` stands alone, or as an argument.
    if expr.kind == ExprKind::Star {
        return of(ExprKind::Call { function: Arc::from("get"), args: vec![expr, other] });
    }
    match random.below(10) {
        0 | 1 => other,
        2 | 3 => {
            let all: Vec<_> = functions::all().filter(|function| function.purity != Purity::External).collect();
            let function = random.pick(&all);
            let mut args = vec![expr];
            let wanted = function.arity.0.max(1) + random.below(2);
            while args.len() < wanted.min(function.arity.1) {
                args.push(random.pick(&corpus.exprs).clone());
            }
            args.truncate(function.arity.1);
            of(ExprKind::Call { function: Arc::from(function.name), args })
        }
        4 | 5 => {
            let op = *random.pick(&[Add, And, Div, Eq, Ge, In, Lt, Mul, Ne, Or, Rem, Sub]);
            of(ExprKind::Binary { op, left: Box::new(expr), right: Box::new(other) })
        }
        6 => {
            let number = random.pick(&NUMBERS).trim_start_matches('-');
            of(ExprKind::Literal(Value::literal_number(number).unwrap_or(Value::Null)))
        }
        7 => {
            let text = random.pick(&corpus.patterns).repeat(random.below(3));
            of(ExprKind::Literal(Value::text(text)))
        }
        8 => {
            let items = if random.once_in(3) { Items::Value(of(ExprKind::Star)) } else { Items::Value(expr) };
            let source = of(ExprKind::Name(Arc::from(*random.pick(&["arr", "list", "a", "obj"]))));
            let query = Subquery { items, source, alias: Some(Arc::from("e")), filter: None };
            of(ExprKind::Subquery(Box::new(query)))
        }
        _ => {
            let copies = *random.pick(&[2, 8, 40]);
            of(ExprKind::Call { function: Arc::from("concat"), args: vec![expr; copies] })
        }
    }
}

/// Exchanges a number or a text of a JSON text.
fn exchange(text: &mut Vec<u8>, random: &mut Random) {
    let shown = String::from_utf8_lossy(text).into_owned();
    let places = leaves(&shown);
    if places.is_empty() {
        return;
    }
    let (start, end) = *random.pick(&places);
    let new = match random.below(5) {
        0 | 1 => (*random.pick(&NUMBERS)).to_owned(),
        2 => format!("\"{}\"", random.pick(&TEXTS).repeat(*random.pick(&[1, 1, 3, 4000]))),
        3 => {
            let (start, end) = *random.pick(&places);
            let piece = shown[start..end].to_owned();
            format!("[{}{piece}]", format!("{piece},").repeat(*random.pick(&[0, 1, 30, 2000])))
        }
        _ => {
            let depth = *random.pick(&[1, 3, 126, 130]);
            format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
        }
    };
    let mut all = shown;
    all.replace_range(start..end, &new);
    if all.len() <= MAX_BYTES {
        *text = all.into_bytes();
    }
}

/// The places of numbers and texts that are no member names.
fn leaves(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut places = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
            }
            b'-' | b'0'..=b'9' => {
                while at < bytes.len() && matches!(bytes[at], b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    at += 1;
                }
            }
            _ => {
                at += 1;
                continue;
            }
        }
        let is_name = bytes.get(at) == Some(&b':');
        if !is_name && text.is_char_boundary(start) && text.is_char_boundary(at) {
            places.push((start, at));
        }
    }
    places
}

/// Edits a text: removes, repeats, swaps, or takes a piece of another one.
fn edit(text: &mut Vec<u8>, corpus: &Corpus, random: &mut Random) {
    let start = random.below(text.len() + 1);
    let end = (start + random.below(24)).min(text.len());
    match random.below(7) {
        0 => drop(text.drain(start..end)),
        1 => {
            let piece = text[start..end].repeat(*random.pick(&REPEATS));
            if text.len() + piece.len() <= MAX_BYTES {
                text.splice(end..end, piece);
            }
        }
        2 => {
            let other = random.pick(&corpus.texts).as_bytes();
            let from = random.below(other.len() + 1);
            let to = (from + random.below(40)).min(other.len());
            text.splice(start..end, other[from..to].iter().copied());
        }
        3 => drop(text.splice(start..end, random.pick(&NUMBERS).bytes())),
        4 => {
            let sign =
                *random.pick(&["(", "[", "{", "'", "\"", "${", ")", "*", "\\", ",", "--", "\u{0}", "é", "😀", "+"]);
            let signs = sign.repeat(*random.pick(&[1, 1, 1, 200, 5000]));
            text.splice(start..end, signs.bytes());
        }
        5 => {
            let other = random.pick(&corpus.patterns);
            text.splice(start..end, other.bytes());
        }
        _ if start < text.len() => text[start] = random.next() as u8,
        _ => text.truncate(start),
    }
}
