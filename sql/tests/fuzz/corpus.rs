//! What inputs are made from: the vectors and the documentation, taken apart.

use hedgerow_sql::ast::{Dialect, Expr, Select};
use hedgerow_sql::parse::parse_statement;
use serde::Deserialize;
use serde_json::value::RawValue;

const VECTORS: [&str; 2] = [include_str!("../vectors/iot-sql.jsonl"), include_str!("../vectors/native.jsonl")];
const PAGES: [&str; 2] = [include_str!("../../../docs/language.md"), include_str!("../../../docs/functions.md")];

/// The members of a vector that matter here.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "sqlVersion")]
    version: Option<String>,
    sql: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    template: Option<String>,
}

pub struct Corpus {
    /// Statements with the dialect they were written for.
    pub statements: Vec<(Dialect, Select)>,
    /// Their expressions and all parts of those.
    pub exprs: Vec<Expr>,
    /// Statements, templates and rule files as text.
    pub texts: Vec<String>,
    pub payloads: Vec<String>,
    pub templates: Vec<String>,
    /// Texts that stand in the statements: patterns of all sorts.
    pub patterns: Vec<String>,
}

impl Corpus {
    pub fn load() -> Self {
        let mut corpus = Self {
            statements: Vec::new(),
            exprs: Vec::new(),
            texts: Vec::new(),
            payloads: PAYLOADS.map(str::to_owned).to_vec(),
            templates: TEMPLATES.map(str::to_owned).to_vec(),
            patterns: PATTERNS.map(str::to_owned).to_vec(),
        };
        for line in VECTORS.iter().flat_map(|file| file.lines()).filter(|line| !line.trim().is_empty()) {
            let line: Line<'_> = serde_json::from_str(line).expect("a vector");
            if let Some(payload) = line.payload.filter(|payload| !corpus.payloads.iter().any(|p| p == payload.get())) {
                corpus.payloads.push(payload.get().to_owned());
            }
            corpus.templates.extend(line.template);
            let dialect = match line.version.as_deref() {
                Some("2015-10-08") => Dialect::Aws2015,
                Some("native") | None => Dialect::Native,
                Some(_) => Dialect::Aws2016,
            };
            let Some(sql) = line.sql else { continue };
            if let Ok(select) = parse_statement(&sql, dialect) {
                select.exprs().for_each(|expr| collect(expr, &mut corpus.exprs));
                corpus.statements.push((dialect, select));
            }
            corpus.texts.push(sql);
        }
        for page in PAGES {
            corpus
                .texts
                .extend(page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned));
        }
        let literals = corpus.texts.iter().flat_map(|text| text.split('\'').skip(1).step_by(2));
        let literals: Vec<String> = literals.filter(|text| text.len() < 80).map(str::to_owned).collect();
        corpus.patterns.extend(literals);
        assert!(corpus.statements.len() > 1000 && corpus.exprs.len() > 2000);
        corpus
    }
}

fn collect(expr: &Expr, out: &mut Vec<Expr>) {
    out.push(expr.clone());
    expr.for_each_child(|child| collect(child, out));
}

const PAYLOADS: [&str; 6] = [
    r#"{"timestamp":1700000000000,"temperature":51.3,"humidity":40,"status":"ok","position":{"lat":51.5,"long":-0.12}}"#,
    r#"{"i":4,"d":2.5,"s":"2.5","sx":"abc","t":true,"nul":null,"arr":[1,2,{"k":3}],"obj":{"k":"v","l":[1]},"é":"€😀"}"#,
    r#"{"a":[{"b":[{"c":1},{"c":2}]},{"b":[]}],"x":1e999,"y":-0.0000001,"z":9007199254740993}"#,
    r#"{"list":[1,"2",3.0,null,true,[4],{"k":5}],"text":"12","a":{"b":{"c":{"d":{}}}}}"#,
    r#"[{"a":1},{"a":"x"},{"b":null}]"#,
    r#"{"a":1,"a":2,"\u0061":3,"b":"\ud83d\ude00\n"}"#,
];

const TEMPLATES: [&str; 4] = ["${topic(2)}/${a}", "${*}", "a${concat(s, '}', i)}b${", "${get(*, 'odd name')}-$$"];

const PATTERNS: [&str; 24] = [
    "(a+)+$",
    "(a|aa)+\\1b",
    "(?=(a+)+$)a",
    "(?<=a)b(?!c)",
    "((a{10}){10}){10}",
    "[\\p{L}&&[^\\p{Lu}]]{1,40}",
    "(?i)k\\Q.*\\E+",
    "(x*)*y",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "(.*)(.*)(.*)(.*)(.*)x",
    "(?s).*?(?:a|ab|abc)++",
    "\\b\\w+\\b\\s*\\R?",
    "$1${name}\\$",
    "yyyy-MM-dd'T'HH:mm:ss.SSSZZ",
    "EEE, d MMM yyyy HH:mm:ss Z",
    "yyyy-MM-dd[ HH:mm[:ss]][ VV][XXX]",
    "uuuuDDDppppHn",
    "2020-02-31T24:00:00+18:00",
    "1600000000000",
    "-62135596800001",
    "Europe/Berlin",
    "+05:30",
    "GMT+8",
    "base64",
];
