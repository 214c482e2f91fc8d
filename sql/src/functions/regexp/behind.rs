//! Look-behind whose matches differ in length, as Java has it.
//!
//! The matcher goes back a known number of characters, so such a look-behind is written out, with an alternative for each
//! length: `(?<=ab?c)` as `(?:(?<=ac)|(?<=abc))`. What is repeated at the very beginning is repeated as rarely as it may be,
//! which finds the same: further back there may be anything. So `(?<=\s{0,9}=)` is `(?<==)`.
//!
//! Java refuses what has no greatest length, and a group repeated by number whose inside is not the same every time; so
//! it is here. Not here is what has no greatest length and is let through by Java all the same, a character with `*` or
//! `+` that does not come first; what is atomic or possessive and differs in length; and what would be too long written out. Groups are not captured: who asks for one gets
//! Undefined.
//!
//! Works on patterns in our spelling, as [`super::java`] writes them.

use std::iter::Peekable;
use std::str::Chars;

/// Bytes that one look-behind may take when it is written out.
const MAX_WRITTEN: usize = 32 << 10;
/// Bytes written on the way to it.
const MAX_DRAFTS: usize = 1 << 20;
/// Characters that it may look back.
const MAX_BACK: usize = 1_000;
const MAX_DEPTH: u32 = 64;

/// Part of a pattern.
#[derive(Clone, Debug)]
enum Node {
    /// One character, or one of a class.
    One(String),
    /// What takes no characters, and groups that only look around.
    Nothing(String),
    /// How it opens, and what is in it. Groups that capture open as others do.
    Group(&'static str, Box<Node>),
    Sequence(Vec<Node>),
    Either(Vec<Node>),
    Repeat(Box<Node>, Times),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    least: usize,
    /// `None`: there is no limit.
    most: Option<usize>,
    /// With `+`, nothing is given back.
    possessive: bool,
}

/// A look-behind written out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub text: String,
    /// Its groups are not captured.
    pub loses_groups: bool,
}

/// The look-behind with this inside, which is negative or not; `None` if Java refuses it, or we do.
pub(super) fn written_out(inside: &str, negative: bool) -> Option<Written> {
    let mut reader = Reader { rest: inside.chars().peekable(), depth: 0, captures: false };
    let mut node = reader.either()?;
    if reader.rest.next().is_some() {
        return None;
    }
    let open = if negative { "(?<!" } else { "(?<=" };
    let alternatives = match &node {
        Node::Either(alternatives) => alternatives.as_slice(),
        single => std::slice::from_ref(single),
    };
    if alternatives.iter().all(|one| matches!(one.lengths(), Some((least, most)) if least == most)) {
        let is_fine = alternatives.iter().all(Node::is_let_through);
        return is_fine.then(|| Written { text: format!("{open}{inside})"), loses_groups: false });
    }
    if !node.is_let_through() {
        return None;
    }
    node.shorten();
    let (least, most) = node.lengths().filter(|(_, most)| *most <= MAX_BACK)?;
    let mut writer = Writer { left: MAX_DRAFTS };
    let mut parts = Vec::new();
    for length in least..=most {
        if let Some(text) = writer.exactly(&node, length)? {
            parts.push(format!("{open}{text})"));
        }
    }
    let text = format!("(?:{})", parts.join(if negative { "" } else { "|" }));
    (text.len() <= MAX_WRITTEN).then_some(Written { text, loses_groups: reader.captures })
}

impl Node {
    /// The least and the most characters; `None` if there is no most.
    fn lengths(&self) -> Option<(usize, usize)> {
        match self {
            Self::One(_) => Some((1, 1)),
            Self::Nothing(_) => Some((0, 0)),
            Self::Group(_, inside) => inside.lengths(),
            Self::Sequence(parts) => parts.iter().try_fold((0_usize, 0_usize), |(least, most), part| {
                let (a, b) = part.lengths()?;
                Some((least.saturating_add(a), most.saturating_add(b)))
            }),
            Self::Either(alternatives) => {
                let lengths = alternatives.iter().map(Self::lengths).collect::<Option<Vec<_>>>()?;
                let least = lengths.iter().map(|(least, _)| *least).min()?;
                Some((least, lengths.iter().map(|(_, most)| *most).max()?))
            }
            Self::Repeat(of, times) => {
                let (least, most) = of.lengths()?;
                Some((least.saturating_mul(times.least), most.saturating_mul(times.most?)))
            }
        }
    }

    fn is_single(&self) -> bool {
        matches!(self, Self::One(_))
    }

    /// Whether Java finds a greatest length. Of a character repeated without limit it does not look for one.
    fn is_let_through(&self) -> bool {
        match self {
            Self::One(_) | Self::Nothing(_) => true,
            Self::Group(_, inside) => inside.is_let_through(),
            Self::Sequence(parts) | Self::Either(parts) => parts.iter().all(Self::is_let_through),
            Self::Repeat(of, _) if of.is_single() => true,
            Self::Repeat(of, times) => {
                let once = times.least == 0 && times.most == Some(1);
                of.is_let_through() && times.most.is_some() && (once || times.possessive || of.is_the_same_each_time())
            }
        }
    }

    fn is_the_same_each_time(&self) -> bool {
        match self {
            Self::One(_) | Self::Nothing(_) => true,
            Self::Group(_, inside) => inside.is_the_same_each_time(),
            Self::Sequence(parts) => parts.iter().all(Self::is_the_same_each_time),
            Self::Either(_) => false,
            Self::Repeat(of, times) if of.is_single() && times.most.is_none() => true,
            Self::Repeat(of, times) => times.most == Some(times.least) && of.is_the_same_each_time(),
        }
    }

    /// Whether it asks for nothing at all.
    fn is_nothing(&self) -> bool {
        match self {
            Self::One(_) | Self::Nothing(_) | Self::Either(_) => false,
            Self::Group(_, inside) => inside.is_nothing(),
            Self::Sequence(parts) => parts.iter().all(Self::is_nothing),
            Self::Repeat(_, times) => times.most == Some(0),
        }
    }

    /// Repeats what comes first as rarely as it may be.
    fn shorten(&mut self) {
        match self {
            Self::One(_) | Self::Nothing(_) => {}
            // What it takes depends on where it begins.
            Self::Group("(?>", _) => {}
            Self::Group(_, inside) => inside.shorten(),
            Self::Either(alternatives) => alternatives.iter_mut().for_each(Self::shorten),
            Self::Sequence(parts) => {
                for part in parts {
                    part.shorten();
                    if !part.is_nothing() {
                        break;
                    }
                }
            }
            Self::Repeat(_, times) => {
                if !times.possessive || times.most == Some(times.least) {
                    times.most = Some(times.least);
                }
            }
        }
    }
}

/// Writes nodes out for one length.
struct Writer {
    /// Bytes that may still be written.
    left: usize,
}

impl Writer {
    /// What finds the same with exactly so many characters; inside, `None` if nothing does. `None` if it is too long, or
    /// depends on more than the length.
    fn exactly(&mut self, node: &Node, length: usize) -> Option<Option<String>> {
        let text = match node {
            Node::One(text) => (length == 1).then(|| text.clone()),
            Node::Nothing(text) => (length == 0).then(|| text.clone()),
            Node::Group("(?>", inside) => {
                let (least, most) = inside.lengths()?;
                if least != most {
                    return None;
                }
                self.exactly(inside, length)?.map(|text| format!("(?>{text})"))
            }
            Node::Group(open, inside) => self.exactly(inside, length)?.map(|text| format!("{open}{text})")),
            Node::Sequence(parts) => self.sequence(parts, length)?,
            Node::Either(alternatives) => {
                let mut found = Vec::new();
                for alternative in alternatives {
                    found.extend(self.exactly(alternative, length)?);
                }
                one_of(found)
            }
            Node::Repeat(of, times) => self.repeat(of, *times, length)?,
        };
        self.left = self.left.checked_sub(text.as_ref().map_or(1, String::len))?;
        Some(text)
    }

    fn sequence(&mut self, parts: &[Node], length: usize) -> Option<Option<String>> {
        let [first, rest @ ..] = parts else { return Some((length == 0).then(String::new)) };
        let (least, most) = first.lengths()?;
        let mut found = Vec::new();
        for of_first in least..=most.min(length) {
            if let Some(tail) = self.sequence(rest, length - of_first)?
                && let Some(head) = self.exactly(first, of_first)?
            {
                self.left = self.left.checked_sub(head.len() + tail.len())?;
                found.push(head + &tail);
            }
        }
        Some(one_of(found))
    }

    fn repeat(&mut self, of: &Node, times: Times, length: usize) -> Option<Option<String>> {
        let (least, most) = of.lengths()?;
        if times.possessive && (times.most != Some(times.least) || least != most) {
            return None;
        }
        if least != most {
            // Java lets these through once or not at all only.
            let once = self.exactly(of, length)?;
            let not_at_all = (times.least == 0 && length == 0).then(String::new);
            return (times.most? <= 1).then(|| one_of(once.into_iter().chain(not_at_all).collect()));
        }
        let Some(count) = length.checked_div(least) else {
            // It takes no characters: what holds once holds again.
            let text = if times.least == 0 { Some(String::new()) } else { self.exactly(of, 0)? };
            return Some(text.filter(|_| length == 0));
        };
        if count * least != length || count < times.least || count > times.most? {
            return Some(None);
        }
        Some(match count {
            0 => Some(String::new()),
            1 => self.exactly(of, least)?,
            _ => self.exactly(of, least)?.map(|text| format!("(?:{text}){{{count}}}")),
        })
    }
}

fn one_of(mut found: Vec<String>) -> Option<String> {
    match found.len() {
        0 => None,
        1 => found.pop(),
        _ => Some(format!("(?:{})", found.join("|"))),
    }
}

/// Reads the inside of a look-behind; `None` for what cannot be judged.
struct Reader<'p> {
    rest: Peekable<Chars<'p>>,
    depth: u32,
    captures: bool,
}

impl Reader<'_> {
    fn either(&mut self) -> Option<Node> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let mut alternatives = vec![self.sequence()?];
        while self.rest.next_if_eq(&'|').is_some() {
            alternatives.push(self.sequence()?);
        }
        self.depth -= 1;
        Some(if alternatives.len() == 1 { alternatives.pop()? } else { Node::Either(alternatives) })
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut parts = Vec::new();
        while !matches!(self.rest.peek(), None | Some('|' | ')')) {
            let atom = self.atom()?;
            parts.push(self.repeated(atom)?);
        }
        Some(Node::Sequence(parts))
    }

    fn repeated(&mut self, of: Node) -> Option<Node> {
        let (least, most) = match self.rest.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.rest.next();
                let least = self.number()?;
                let most = match self.rest.next_if_eq(&',') {
                    None => Some(least),
                    Some(_) if self.rest.peek() == Some(&'}') => None,
                    Some(_) => Some(self.number()?),
                };
                (least, most)
            }
            _ => return Some(of),
        };
        self.rest.next();
        let possessive = self.rest.next_if_eq(&'+').is_some();
        if !possessive {
            self.rest.next_if_eq(&'?');
        }
        Some(Node::Repeat(Box::new(of), Times { least, most, possessive }))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number: usize = self.rest.next()?.to_digit(10)? as usize;
        while let Some(digit) = self.rest.peek().and_then(|next| next.to_digit(10)) {
            number = number.checked_mul(10)?.checked_add(digit as usize)?;
            self.rest.next();
        }
        Some(number)
    }

    fn atom(&mut self) -> Option<Node> {
        Some(match self.rest.next()? {
            '\\' => return self.escape(),
            '[' => Node::One(self.class()?),
            '(' => return self.group(),
            anchor @ ('^' | '$') => Node::Nothing(anchor.into()),
            '?' | '*' | '+' | '{' => return None,
            character => Node::One(character.into()),
        })
    }

    fn escape(&mut self) -> Option<Node> {
        let letter = self.rest.next()?;
        let mut text = format!("\\{letter}");
        match letter {
            'A' | 'b' | 'B' | 'G' | 'z' if self.rest.peek() != Some(&'{') => return Some(Node::Nothing(text)),
            'x' | 'p' | 'P' if self.rest.peek() == Some(&'{') => loop {
                let character = self.rest.next()?;
                text.push(character);
                if character == '}' {
                    break;
                }
            },
            'x' => text.extend([self.rest.next()?, self.rest.next()?]),
            'a' | 'f' | 'n' | 'r' | 't' => {}
            _ => return None,
        }
        Some(Node::One(text))
    }

    /// A class, whose opening bracket has been read. A closing one that comes first is a member.
    fn class(&mut self) -> Option<String> {
        let mut text = String::from("[");
        let (mut open, mut begins) = (1, true);
        while open > 0 {
            let character = self.rest.next()?;
            text.push(character);
            match character {
                '\\' => text.push(self.rest.next()?),
                '[' => open += 1,
                ']' if !begins => open -= 1,
                _ => {}
            }
            begins = character == '[' || begins && character == '^';
        }
        Some(text)
    }

    fn group(&mut self) -> Option<Node> {
        let mut open = String::new();
        if self.rest.next_if_eq(&'?').is_some() {
            while let Some(next) = self.rest.next_if(|next| *next != ')') {
                open.push(next);
                let is_name = open.starts_with('<') && open.len() > 1 && !matches!(open.as_str(), "<=" | "<!");
                if matches!(next, ':' | '=' | '!' | '>') && (!is_name || next == '>') {
                    break;
                }
            }
        } else {
            open.push('<');
        }
        let inside = self.either()?;
        self.rest.next_if_eq(&')')?;
        Some(match open.as_str() {
            ":" => Node::Group("(?:", Box::new(inside)),
            ">" => Node::Group("(?>", Box::new(inside)),
            "i:" => Node::Group("(?i:", Box::new(inside)),
            "s:" => Node::Group("(?s:", Box::new(inside)),
            "=" | "!" | "<=" | "<!" => Node::Nothing(format!("(?{open}{})", inside.as_written())),
            name if name.starts_with('<') => {
                self.captures = true;
                Node::Group("(?:", Box::new(inside))
            }
            _ => return None,
        })
    }
}

impl Node {
    /// The node in full.
    fn as_written(&self) -> String {
        let all = |parts: &[Self]| parts.iter().map(Self::as_written).collect::<Vec<_>>();
        match self {
            Self::One(text) | Self::Nothing(text) => text.clone(),
            Self::Group(open, inside) => format!("{open}{})", inside.as_written()),
            Self::Sequence(parts) => all(parts).concat(),
            Self::Either(alternatives) => all(alternatives).join("|"),
            Self::Repeat(of, Times { least, most, possessive }) => {
                let most = most.map_or(String::new(), |most| most.to_string());
                format!("{}{{{least},{most}}}{}", of.as_written(), if *possessive { "+" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(inside: &str, negative: bool) -> Option<String> {
        written_out(inside, negative).map(|written| written.text)
    }

    #[test]
    fn there_is_an_alternative_for_each_length() {
        assert_eq!(text("ab?c", false).unwrap(), "(?:(?<=ac)|(?<=abc))");
        assert_eq!(text("ab?c", true).unwrap(), "(?:(?<!ac)(?<!abc))");
        assert_eq!(text("a[bc]{1,3}", false).unwrap(), "(?:(?<=a[bc])|(?<=a(?:[bc]){2})|(?<=a(?:[bc]){3}))");
        assert_eq!(text("ab|c", false).unwrap(), "(?<=ab|c)", "as it is");
    }

    #[test]
    fn what_comes_first_is_as_short_as_it_may_be() {
        assert_eq!(text("a{1,300}b", false).unwrap(), "(?:(?<=ab))");
        assert_eq!(text("a*b?c", false).unwrap(), "(?:(?<=c))");
        assert_eq!(text(".{0,1000}", true).unwrap(), "(?:(?<!))");
    }

    #[test]
    fn what_java_refuses_and_what_is_too_long_is_refused() {
        for inside in ["(?:ab)*", "(?:a|bc){1,2}", "(?:a?){2}", "xa+", "a(?>b?)", "(?:\\1)", "a{2000}b?c"] {
            assert_eq!(text(inside, false), None, "{inside}");
        }
        assert_eq!(text(&format!("x{}", "a?".repeat(100)), false), None);
    }
}
