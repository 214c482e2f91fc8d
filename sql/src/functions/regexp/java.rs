//! From Java's spelling of regular expressions
//! (<https://docs.oracle.com/en/java/javase/11/docs/api/java.base/java/util/regex/Pattern.html>) to ours.
//!
//! Most of it is the same. Different are the short classes, which are ASCII in Java (`\d`, `\w`, `\s`, `\p{Alpha}`),
//! quoting (`\Q…\E`), `\uXXXX`, octal and control escapes, `\h`, `\R`, `\Z`, and what `.` leaves out. Not translated:
//! `$` matches at the very end only, not before a last line end; `(?i)` ignores case beyond ASCII as well.

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

/// The pattern in our spelling; `None` for what Java refuses and we can tell.
pub(super) fn translate(pattern: &str) -> Option<String> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
        class_depth: 0,
        any_is_any: sets_dotall(pattern),
    };
    while let Some(character) = translator.rest.next() {
        translator.character(character)?;
    }
    Some(translator.out)
}

/// True if an inline flag makes `.` match line ends somewhere; then it is left alone everywhere.
fn sets_dotall(pattern: &str) -> bool {
    pattern
        .split("(?")
        .skip(1)
        .any(|group| group.chars().take_while(|flag| flag.is_ascii_alphabetic()).any(|flag| flag == 's'))
}

struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
    class_depth: u32,
    any_is_any: bool,
}

impl Translator<'_> {
    fn character(&mut self, character: char) -> Option<()> {
        match character {
            '\\' => return self.escape(),
            '[' => self.class_depth += 1,
            ']' => self.class_depth = self.class_depth.saturating_sub(1),
            '.' if self.class_depth == 0 && !self.any_is_any => {
                self.class(LINE_ENDS, true);
                return Some(());
            }
            _ => {}
        }
        self.out.push(character);
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
            'Z' => {
                let _ = write!(self.out, r"(?=(?:\r\n|[{LINE_ENDS}])?\z)");
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
            other => {
                self.out.push('\\');
                self.out.push(other);
            }
        }
        Some(())
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
    use super::super::compile;

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
            (r"a.b", "a\rb", false),
            (r"(?s)a.b", "a\rb", true),
            (r"a\Z", "a\n", true),
            (r"a\Rb", "a\r\nb", true),
            (r"\cA\e", "\u{1}\u{1b}", true),
            (r"[a-z&&[^b]]", "b", false),
            (r"a++b", "aab", true),
            (r"(?<x>a)\k<x>", "aa", true),
        ] {
            let regex = compile(pattern).unwrap_or_else(|| panic!("{pattern} compiles"));
            assert_eq!(regex.is_match(text).unwrap(), found, "{pattern} in {text:?}");
        }
        for bad in ["\\", r"\u12", r"\ud83d", "(", "[", r"\08"] {
            assert!(compile(bad).is_none(), "{bad} is no pattern");
        }
    }
}
