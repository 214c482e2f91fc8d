//! From Java's spelling of regular expressions
//! (<https://docs.oracle.com/en/java/javase/11/docs/api/java.base/java/util/regex/Pattern.html>) to ours.
//!
//! Most of it is the same. Different are the short classes, which are ASCII in Java (`\d`, `\w`, `\s`, `\p{Alpha}`),
//! quoting (`\Q…\E`), `\uXXXX`, octal and control escapes, `\h`, `\R`, `\Z`, what `.` leaves out, where `$` matches, and
//! how braces, back-references and escaped signs are read. Not translated: `(?i)` ignores case beyond ASCII as well, and
//! `(?m)` knows `\n` only.

use super::behind;
use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

/// Line ends besides `\r\n`, as the inside of a class.
const LINE_ENDS: &str = r"\n\r\x{85}\x{2028}\x{2029}";
const VERTICAL: &str = r"\n\x{0B}\x{0C}\r\x{85}\x{2028}\x{2029}";
const HORIZONTAL: &str = r" \t\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";

/// The POSIX classes, which Java restricts to ASCII.
const POSIX: [(&str, &str); 13] = [
    ("Lower", "lower"),
    ("Upper", "upper"),
    ("ASCII", "ascii"),
    ("Alpha", "alpha"),
    ("Digit", "digit"),
    ("Alnum", "alnum"),
    ("Punct", "punct"),
    ("Graph", "graph"),
    ("Print", "print"),
    ("Blank", "blank"),
    ("Cntrl", "cntrl"),
    ("XDigit", "xdigit"),
    ("Space", "space"),
];

/// A pattern in our spelling.
pub(super) struct Translated {
    pub text: String,
    /// Groups that are counted and never captured, see [`behind`].
    pub lost: Vec<u32>,
}

/// The pattern in our spelling; `None` for what Java refuses and we can tell. `before_line_end`: the texts it is for end
/// with a line end, in front of which `$` and `\Z` match as well.
pub(super) fn translate(pattern: &str, before_line_end: bool) -> Option<Translated> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        class_depth: 0,
        class_begins: false,
        groups: 0,
        open: Vec::new(),
        lost: Vec::new(),
        referred: Vec::new(),
        is_extended: sets_flag(pattern, 'x'),
        // Flags hold for a part of the pattern; what they change is then left alone in all of it.
        any_is_any: sets_flag(pattern, 's') || sets_flag(pattern, 'd'),
        end_is_end: !before_line_end || sets_flag(pattern, 'm'),
    };
    while let Some(character) = translator.rest.next() {
        translator.character(character)?;
    }
    let Translator { out: text, lost, referred, .. } = translator;
    referred.iter().all(|group| !lost.contains(group)).then_some(Translated { text, lost })
}

/// True if a text ends with a line end.
pub(super) fn ends_line(text: &str) -> bool {
    text.ends_with(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'])
}

/// True if the flag is set somewhere inside of the pattern: `(?s)`.
fn sets_flag(pattern: &str, flag: char) -> bool {
    let groups = pattern.split("(?").skip(1);
    let flags = |group: &str| group.chars().take_while(|flag| flag.is_ascii_alphabetic()).any(|set| set == flag);
    groups.into_iter().any(flags)
}

struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    class_depth: u32,
    /// Nothing stands in the class yet, so that a `]` is one of its members.
    class_begins: bool,
    /// Groups so far.
    groups: u32,
    /// The groups that are open, innermost last.
    open: Vec<Open>,
    lost: Vec<u32>,
    /// Groups that are referred to.
    referred: Vec<u32>,
    /// Blanks and comments may stand between the parts.
    is_extended: bool,
    any_is_any: bool,
    end_is_end: bool,
}

/// An open group.
enum Open {
    /// A look-behind, with the place of its parenthesis in what is written, and the groups before it.
    Behind(usize, u32),
    Other,
}

impl Translator<'_> {
    fn character(&mut self, character: char) -> Option<()> {
        if self.class_depth > 0 {
            return self.in_class(character);
        }
        match character {
            '\\' => return self.escape(),
            '[' => self.open_class(),
            '.' if !self.any_is_any => {
                self.class(LINE_ENDS, true);
                return Some(());
            }
            '$' if !self.end_is_end => {
                self.before_last_line_end();
                return Some(());
            }
            '{' => return self.counted(),
            '(' => return self.group(),
            ')' => return self.close(),
            _ => {}
        }
        self.out.push(character);
        Some(())
    }

    fn open_class(&mut self) {
        self.class_depth += 1;
        self.class_begins = true;
    }

    fn in_class(&mut self, character: char) -> Option<()> {
        let begins = std::mem::take(&mut self.class_begins);
        match character {
            '\\' => return self.escape(),
            '[' => self.open_class(),
            '^' if begins && self.out.ends_with('[') => self.class_begins = true,
            ']' if begins => {}
            ']' => self.class_depth -= 1,
            // Doubled, these are operators here, and not in Java.
            '-' | '~' if self.out.ends_with(character) => {
                self.code(character.into());
                return Some(());
            }
            _ => {}
        }
        self.out.push(character);
        Some(())
    }

    /// In front of a line end that is the last thing of the text, or at its very end.
    fn before_last_line_end(&mut self) {
        // Writing to a String cannot fail.
        let _ = write!(self.out, r"(?=(?:\r\n|[{LINE_ENDS}])?\z)");
    }

    /// `{n}`, `{n,}`, `{n,m}`. Java refuses any other brace that is not escaped.
    fn counted(&mut self) -> Option<()> {
        let least: u32 = self.digits().parse().ok()?;
        let _ = write!(self.out, "{{{least}");
        if self.rest.next_if_eq(&',').is_some() {
            self.out.push(',');
            let most = self.digits();
            if !most.is_empty() {
                let most = most.parse::<u32>().ok().filter(|most| *most >= least)?;
                let _ = write!(self.out, "{most}");
            }
        }
        self.rest.next_if_eq(&'}')?;
        self.out.push('}');
        Some(())
    }

    fn digits(&mut self) -> String {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        digits
    }

    /// What opens a group. Of inline flags those are kept that mean the same.
    fn group(&mut self) -> Option<()> {
        let start = self.out.len();
        self.out.push('(');
        self.open.push(Open::Other);
        if self.rest.next_if_eq(&'?').is_none() {
            self.groups += 1;
            return Some(());
        }
        self.out.push('?');
        match self.rest.peek()? {
            '<' => {
                self.rest.next();
                self.out.push('<');
                let is_name = self.rest.peek()?.is_ascii_alphabetic();
                self.groups += u32::from(is_name);
                if !is_name {
                    let kind = self.rest.next_if(|next| matches!(next, '=' | '!'))?;
                    self.out.push(kind);
                    self.open.pop();
                    self.open.push(Open::Behind(start, self.groups));
                }
            }
            ':' | '=' | '!' | '>' => {}
            _ => {
                while let Some(flag) = self.rest.next_if(|c| c.is_ascii_alphabetic() || *c == '-') {
                    match flag {
                        'i' | 'm' | 's' | 'x' | '-' => self.out.push(flag),
                        // Cases beyond ASCII are ignored anyway; the other two change what is left alone.
                        'u' | 'd' | 'U' => {}
                        _ => return None,
                    }
                }
                if self.out.ends_with('-') {
                    self.out.pop();
                }
                match self.rest.next()? {
                    // Without a flag it is a group that holds nothing, or a plain one.
                    end @ (')' | ':') => {
                        if end == ')' {
                            self.open.pop();
                        }
                        self.out.push_str(if end == ')' && self.out.ends_with('?') { ":" } else { "" });
                        self.out.push(end);
                    }
                    _ => return None,
                }
            }
        }
        Some(())
    }

    /// The end of a group. A look-behind is written out if its matches differ in length.
    fn close(&mut self) -> Option<()> {
        let Open::Behind(start, groups) = self.open.pop()? else {
            self.out.push(')');
            return Some(());
        };
        const OPENING: usize = "(?<=".len();
        let whole = self.out.split_off(start);
        let (opening, inside) = whole.split_at_checked(OPENING)?;
        if self.is_extended {
            // Blanks and comments are not told from characters here. The matcher takes what has one length.
            self.out.push_str(&whole);
            self.out.push(')');
            return Some(());
        }
        let written = behind::written_out(inside, opening.ends_with('!'))?;
        if written.loses_groups {
            for group in groups + 1..=self.groups {
                self.lost.push(group);
                // It is counted, and never matches.
                self.out.push_str("(?:(?!)())?");
            }
        }
        self.out.push_str(&written.text);
        Some(())
    }

    /// `\1`: as many digits as make the number of a group that there is; the rest are characters.
    fn back_reference(&mut self, first: char) -> Option<()> {
        let mut group = first.to_digit(10)?;
        while let Some(longer) = self.rest.peek().and_then(|next| next.to_digit(10)).map(|next| group * 10 + next) {
            if longer > self.groups {
                break;
            }
            group = longer;
            self.rest.next();
        }
        self.referred.push(group);
        let _ = write!(self.out, r"(?:\{group})");
        Some(())
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<()> {
        let letter = self.rest.next()?;
        match letter {
            'd' | 'D' => self.class("0-9", letter == 'D'),
            'w' | 'W' => self.class("a-zA-Z_0-9", letter == 'W'),
            's' | 'S' => self.class(r" \t\n\x{0B}\x{0C}\r", letter == 'S'),
            'h' | 'H' => self.class(HORIZONTAL, letter == 'H'),
            'v' | 'V' => self.class(VERTICAL, letter == 'V'),
            'R' if self.class_depth == 0 => {
                // Writing to a String cannot fail.
                let _ = write!(self.out, r"(?:\r\n|[{VERTICAL}])");
            }
            'Z' if self.class_depth == 0 => {
                if self.end_is_end {
                    self.out.push_str(r"\z");
                } else {
                    self.before_last_line_end();
                }
            }
            'Q' => self.quoted(),
            'E' => {}
            'u' => return self.unicode(),
            '0' => return self.octal(),
            'c' => {
                let control = self.rest.next().filter(char::is_ascii)?;
                self.code(u32::from(control) ^ 64);
            }
            'e' => self.code(0x1b),
            'p' | 'P' => return self.property(letter == 'P'),
            '1'..='9' if self.class_depth == 0 => return self.back_reference(letter),
            // Letters that mean something, and the same. Java has no others.
            'A' | 'b' | 'B' | 'G' | 'k' | 'X' | 'z' if self.class_depth == 0 => self.same(letter),
            'a' | 'f' | 'n' | 'r' | 't' | 'x' => self.same(letter),
            letter if letter.is_ascii_alphanumeric() => return None,
            // A sign, taken as it is.
            sign => self.code(sign.into()),
        }
        Some(())
    }

    fn same(&mut self, letter: char) {
        self.out.push('\\');
        self.out.push(letter);
    }

    /// A class given by its inside.
    fn class(&mut self, inside: &str, negated: bool) {
        let not = if negated { "^" } else { "" };
        // Inside of brackets a plain class is just more members.
        let _ = if self.class_depth > 0 && !negated {
            write!(self.out, "{inside}")
        } else {
            write!(self.out, "[{not}{inside}]")
        };
    }

    fn code(&mut self, code: u32) {
        let _ = write!(self.out, r"\x{{{code:X}}}");
    }

    /// Up to `\E` or the end everything is literal.
    fn quoted(&mut self) {
        while let Some(character) = self.rest.next() {
            if character == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            if character.is_ascii_alphanumeric() || !character.is_ascii() {
                self.out.push(character);
            } else {
                self.code(character.into());
            }
        }
    }

    /// `\uXXXX`; two of them may be the halves of a surrogate pair.
    fn unicode(&mut self) -> Option<()> {
        let first = self.hex4()?;
        if !(0xd800..0xdc00).contains(&first) {
            self.code(first);
            return Some(());
        }
        self.rest.next_if_eq(&'\\')?;
        self.rest.next_if_eq(&'u')?;
        let second = self.hex4().filter(|second| (0xdc00..0xe000).contains(second))?;
        self.code(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        Some(())
    }

    fn hex4(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |code, _| Some(code * 16 + self.rest.next()?.to_digit(16)?))
    }

    /// `\0n`, `\0nn`, `\0mnn` up to `\0377`.
    fn octal(&mut self) -> Option<()> {
        let mut code = self.rest.next()?.to_digit(8)?;
        while let Some(longer) = self.rest.peek().and_then(|next| next.to_digit(8)).map(|next| code * 8 + next) {
            if longer > 0o377 {
                break;
            }
            code = longer;
            self.rest.next();
        }
        self.code(code);
        Some(())
    }

    /// `\p{…}`, `\pL`.
    fn property(&mut self, negated: bool) -> Option<()> {
        let letter = if negated { 'P' } else { 'p' };
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.rest.next()?;
            let _ = write!(self.out, r"\{letter}{{{name}}}");
            return Some(());
        }
        let name: String = self.rest.by_ref().take_while(|character| *character != '}').collect();
        if let Some((_, posix)) = POSIX.iter().find(|(java, _)| *java == name) {
            let not = if negated { "^" } else { "" };
            let _ = if self.class_depth > 0 {
                write!(self.out, "[:{not}{posix}:]")
            } else {
                write!(self.out, "[[:{not}{posix}:]]")
            };
            return Some(());
        }
        let name = name.strip_prefix("Is").unwrap_or(&name);
        let _ = write!(self.out, r"\{letter}{{{name}}}");
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_match;

    #[test]
    fn javas_patterns_mean_what_they_mean_in_java() {
        for (pattern, text, found) in [
            (r"^\d+$", "123", true),
            (r"^\d$", "\u{663}", false),
            (r"^[\d.]+$", "1.5", true),
            (r"^[^\W_]+$", "ab1", true),
            (r"^[^\W_]+$", "a_b", false),
            (r"\s", "\u{a0}", false),
            (r"\h", "\u{a0}", true),
            (r"^\p{Alpha}+$", "abc", true),
            (r"^\p{Alpha}+$", "\u{e9}", false),
            (r"^[\p{Alpha}\p{Digit}]+$", "a1", true),
            (r"^[^\P{Upper}]+$", "AB", true),
            (r"^\p{IsAlphabetic}\pL$", "\u{e9}\u{e9}", true),
            (r"^\Qa.b\E.$", "a.bc", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"\u20AC\x41\0101\x{41}", "\u{20ac}AAA", true),
            (r"\ud83d\ude00", "\u{1f600}", true),
            (r"a$", "a\n", true),
            (r"a$", "a\r\n", true),
            (r"a$", "a\nb", false),
            (r"(?m)a$", "a\nb", true),
            (r"^[^$]$", "$", false),
            (r"^a\z", "a\n", false),
            (r"^\<a\>\-$", "<a>-", true),
            (r"^(a)\12$", "aa2", true),
            (r"^[]a]+$", "a]", true),
            (r"^[^]a]+$", "b", true),
            (r"^[].]$", "x", false),
            (r"^[+--]$", ",", true),
            (r"^[a~~b]$", "~", true),
            (r"(?d)a.b", "a\rb", true),
            (r"(?iu:A)b", "ab", true),
            (r"(?U)a", "a", true),
            (r"^a{2}b{1,}c{0,1}$", "aabb", true),
            (r"^\{a\}$", "{a}", true),
            (r"a.b", "a\rb", false),
            (r"(?s)a.b", "a\rb", true),
            (r"a\Z", "a\n", true),
            (r"a\Rb", "a\r\nb", true),
            (r"\cA\e", "\u{1}\u{1b}", true),
            (r"[a-z&&[^b]]", "b", false),
            (r"a++b", "aab", true),
            (r"(?<x>a)\k<x>", "aa", true),
        ] {
            assert_eq!(is_match(text, pattern), Some(found), "{pattern} in {text:?}");
        }
        let bad = [
            "\\", r"\u12", r"\ud83d", "(", "[", r"\08", "{", "a{", "a{,2}", "a{2", "a{3,1}", "*a", "a**", r"\K", r"\y",
            "(?P<n>a)", "(?Q)", "(?", "[]", ")",
        ];
        for bad in bad {
            assert_eq!(is_match("a", bad), None, "{bad} is no pattern");
        }
    }
}
