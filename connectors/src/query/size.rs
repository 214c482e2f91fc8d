//! How large a query may be. Planning recurses over the text, cannot be interrupted, and takes memory that no limit counts;
//! so what would go too deep or multiply too often is refused before.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{ObjectName, Query, Select, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::error::QueryError;

/// What a planner's thread needs for a query of this size, in a build without optimisation. Only what is touched counts.
pub(super) const STACK_BYTES: usize = 256 << 20;
const MOST_BYTES: usize = 256 << 10;
/// Operators that may stand inside each other.
const MOST_LEVELS: usize = 500;
/// Columns of one SELECT.
const MOST_ITEMS: usize = 1_024;
/// Relations, those of a WITH query as often as it is used.
const MOST_RELATIONS: u64 = 256;

/// Refuses a text that is too long, or nests too deep. What is no SQL at all is left to the parser.
pub(super) fn check_text(sql: &str) -> Result<(), QueryError> {
    if sql.len() > MOST_BYTES {
        let message = format!("the query has {} bytes; there may be {MOST_BYTES}", sql.len());
        return Err(QueryError::refused(message).hint("put long lists into a table or lake, and join it"));
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize() else { return Ok(()) };
    let levels = levels(&tokens);
    if levels > MOST_LEVELS {
        let message = format!("the query chains {levels} operators; there may be {MOST_LEVELS}");
        return Err(QueryError::refused(message).hint("`x IN (…)` says what many `x = … OR` say"));
    }
    Ok(())
}

/// How deep operators may stand inside each other, at most: what joins conditions or queries adds up over the text, and to
/// the longest chain between two of them.
fn levels(tokens: &[Token]) -> usize {
    let (mut joining, mut chain, mut longest) = (0, 0, 0);
    for token in tokens {
        match token {
            Token::Word(word) => match word.keyword {
                Keyword::AND | Keyword::OR | Keyword::XOR | Keyword::NOT => (joining, chain) = (joining + 1, 0),
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => {
                    (joining, chain) = (joining + 1, 0);
                }
                Keyword::SELECT | Keyword::WHEN | Keyword::THEN | Keyword::ELSE => chain = 0,
                Keyword::IS | Keyword::LIKE | Keyword::ILIKE | Keyword::BETWEEN | Keyword::COLLATE => chain += 1,
                _ => {}
            },
            Token::Comma => chain = 0,
            Token::Number(..) | Token::SingleQuotedString(_) | Token::Whitespace(_) | Token::Period => {}
            Token::LParen | Token::RParen | Token::SemiColon | Token::EOF => {}
            _ => chain += 1,
        }
        longest = longest.max(chain);
    }
    joining + longest
}

/// Refuses a statement with too many columns or relations.
pub(super) fn check_statement(statement: &Statement) -> Result<(), QueryError> {
    let mut found = Found::default();
    if let ControlFlow::Break(items) = statement.visit(&mut found) {
        return Err(QueryError::refused(format!("a SELECT has {items} columns; there may be {MOST_ITEMS}")));
    }
    let mut costs = Costs { with: &found.with, known: HashMap::new(), open: HashSet::new() };
    let relations = found.relations.iter().fold(0_u64, |sum, name| sum.saturating_add(costs.of(name)));
    if relations > MOST_RELATIONS {
        let message = format!(
            "the query reads {relations} relations, WITH queries counted each time; there may be {MOST_RELATIONS}"
        );
        return Err(QueryError::refused(message).hint("use each WITH query fewer times"));
    }
    Ok(())
}

/// The relations of a statement, and by WITH query those that it reads. Names are compared without their case: two that
/// differ in it count together.
#[derive(Default)]
struct Found {
    relations: Vec<String>,
    with: HashMap<String, Vec<String>>,
}

impl Visitor for Found {
    type Break = usize;

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<usize> {
        self.relations.push(relation.to_string().to_lowercase());
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<usize> {
        for with in query.with.iter().flat_map(|with| &with.cte_tables) {
            let mut inside = Inside(Vec::new());
            let _ = with.query.visit(&mut inside);
            self.with.entry(with.alias.name.to_string().to_lowercase()).or_default().append(&mut inside.0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<usize> {
        match select.projection.len() {
            items if items > MOST_ITEMS => ControlFlow::Break(items),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The relations of one query.
struct Inside(Vec<String>);

impl Visitor for Inside {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        self.0.push(relation.to_string().to_lowercase());
        ControlFlow::Continue(())
    }
}

/// How many relations stand behind a name.
struct Costs<'a> {
    with: &'a HashMap<String, Vec<String>>,
    known: HashMap<&'a str, u64>,
    /// Those that are being counted: a recursive one reads itself once.
    open: HashSet<&'a str>,
}

impl<'a> Costs<'a> {
    fn of(&mut self, name: &str) -> u64 {
        let Some((name, inside)) = self.with.get_key_value(name) else { return 1 };
        if let Some(known) = self.known.get(name.as_str()) {
            return *known;
        }
        if !self.open.insert(name) {
            return 1;
        }
        let cost = inside.iter().fold(0_u64, |sum, name| sum.saturating_add(self.of(name))).max(1);
        self.open.remove(name.as_str());
        self.known.insert(name, cost);
        cost
    }
}
