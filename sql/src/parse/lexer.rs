//! Text to tokens, one at a time: the parser may ask for raw text in between (bare topic filters).
//!
//! The lexer never fails: what it cannot read becomes a token of kind [`Kind::Bad`] with the reason, and the parser
//! reports it when it gets there.

use crate::ast::{Dialect, Span};

/// A token: its kind and place. Its text is the source at its span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// The kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or keyword.
    Word,
    /// Native `"…"`: a name, quotes included.
    QuotedName,
    /// Text, quotes included.
    String,
    /// A number.
    Number,
    /// `@name`, with the sign.
    Variable,
    /// A sign: one of [`SIGNS`].
    Sign(&'static str),
    /// Not a token.
    Bad(Bad),
    /// The end of the text.
    End,
}

/// Why something is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    UnclosedText,
    UnclosedName,
    UnclosedComment,
    /// A number that runs into letters.
    NumberWithLetters,
    /// `@` without a name.
    LonelyAt,
    Character,
    /// Comments exist in native files only.
    Comment,
}

/// Signs, longest first.
const SIGNS: [&str; 24] = [
    "<>", "!=", "<=", ">=", "||", "=", "<", ">", "+", "-", "*", "/", "%", ",", ".", "(", ")", "[", "]", "{", "}", ":",
    ";", "#",
];

/// Reads tokens from a position on. Copying it is how the parser looks ahead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lexer<'a> {
    pub text: &'a str,
    pub dialect: Dialect,
    pub at: usize,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, dialect: Dialect, at: usize) -> Self {
        Self { text, dialect, at }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token; at the end, [`Kind::End`] again and again.
    pub fn next(&mut self) -> Token {
        if let Some(bad) = self.skip_blanks() {
            return bad;
        }
        let start = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Token { kind: Kind::End, span: Span { start, end: start } };
        };
        let (kind, length) = match first {
            '\'' => self.quoted(rest, '\'', Kind::String, Bad::UnclosedText),
            '"' if self.dialect == Dialect::Native => self.quoted(rest, '"', Kind::QuotedName, Bad::UnclosedName),
            '"' => self.quoted(rest, '"', Kind::String, Bad::UnclosedText),
            '@' => match word_length(rest.get(1..).unwrap_or_default(), |c| c == '_' || c.is_ascii_alphanumeric()) {
                0 => (Kind::Bad(Bad::LonelyAt), 1),
                length => (Kind::Variable, 1 + length),
            },
            c if c.is_ascii_digit() => number(rest),
            c if starts_word(c) => (Kind::Word, word_length(rest, continues_word)),
            c => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => (Kind::Sign(sign), sign.len()),
                None => (Kind::Bad(Bad::Character), c.len_utf8()),
            },
        };
        self.at = start + length;
        Token { kind, span: Span { start, end: self.at } }
    }

    /// Skips white space and comments; an unclosed or forbidden comment is a bad token.
    fn skip_blanks(&mut self) -> Option<Token> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}', '\u{a0}']).len();
            self.at += blanks;
            let rest = self.rest();
            let start = self.at;
            let length = if rest.starts_with("--") {
                rest.find('\n').unwrap_or(rest.len())
            } else if rest.starts_with("/*") {
                match rest.find("*/") {
                    Some(end) => end + 2,
                    None => {
                        self.at = self.text.len();
                        return Some(self.bad(Bad::UnclosedComment, start));
                    }
                }
            } else {
                return None;
            };
            self.at += length;
            if self.dialect != Dialect::Native {
                return Some(self.bad(Bad::Comment, start));
            }
        }
    }

    fn bad(&self, bad: Bad, start: usize) -> Token {
        Token { kind: Kind::Bad(bad), span: Span { start, end: self.at } }
    }

    /// A quoted token. A doubled quote is part of it; outside native files a backslash takes the next character along.
    fn quoted(&self, rest: &str, quote: char, kind: Kind, unclosed: Bad) -> (Kind, usize) {
        let mut chars = rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.peek().is_some_and(|&(_, next)| next == quote) {
                    chars.next();
                } else {
                    return (kind, at + c.len_utf8());
                }
            } else if c == '\\' && self.dialect != Dialect::Native {
                chars.next();
            }
        }
        // An unclosed quote swallows its line only, so that the mistakes after it are found as well.
        (Kind::Bad(unclosed), rest.find('\n').unwrap_or(rest.len()))
    }

    /// The source of a token.
    pub fn source(&self, token: Token) -> &'a str {
        self.text.get(token.span.start..token.span.end).unwrap_or_default()
    }
}

/// May a word begin with it?
pub(crate) fn starts_word(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

/// May a word go on with it?
pub(crate) fn continues_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word_length(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c: char| !belongs(c)).unwrap_or(rest.len())
}

/// `digits [. digits] [e [+-] digits]`; a point without digits after it is not part of the number.
fn number(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let digits = |from: usize| {
        from + bytes.get(from..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    let tail = word_length(rest.get(end..).unwrap_or_default(), continues_word);
    if tail > 0 { (Kind::Bad(Bad::NumberWithLetters), end + tail) } else { (Kind::Number, end) }
}
