use super::*;

fn line(rest: &str) -> String {
    format!(r#"{{"id":"x","section":"s","topic":"a",{rest}}}"#)
}

fn report(text: &str) -> Report {
    let (cases, problems) = read(text);
    assert!(problems.is_empty(), "{problems:?}");
    run(&cases, &Alone, |_| true)
}

/// Does a statement that gives `answer` pass with this expectation?
fn passes(answer: &str, expectation: &str) -> bool {
    let text = line(&format!(
        r#""payload":{{"n":null}},"native":"SELECT VALUE {answer} FROM 'a'","template":"t${{n}}",{expectation}"#
    ));
    report(&text).passed == 1
}

#[test]
fn a_wrong_answer_fails() {
    assert!(passes("{'r': 1}", r#""expect":{"r":1.0}"#));
    assert!(!passes("{'r': '1'}", r#""expect":{"r":1}"#));
    assert!(!passes("{'r': 1, 'q': 2}", r#""expect":{"r":1}"#));
    assert!(passes("{'r': 1.005}", r#""expect":{"r":1},"approx":0.01"#));
    assert!(!passes("{'r': 1.02}", r#""expect":{"r":1},"approx":0.01"#));
    assert!(!passes("{'r': 1}", r#""expect_undefined":true"#));
    assert!(!passes("{}", r#""expect_no_match":true"#));
    assert!(!passes("{}", r#""expect_error":true"#));
    assert!(!passes("{'r': 'b'}", r#""expect_regex":{"r":"^a$"}"#));
    assert!(!passes("{}", r#""expect_raw":"""#));
    assert!(!passes("{}", r#""expect_template":"a""#));
    assert!(passes("{}", r#""expect_template":"t""#));
    assert!(passes("n", r#""expect":null"#));
    assert!(!passes("0", r#""expect":null"#));
}

#[test]
fn what_is_no_case_is_told_and_the_others_run() {
    let good = line(r#""payload":null,"sql":"SELECT 1 AS r FROM 'a'","sqlVersion":"2016-03-23","expect":{"r":1}"#);
    for bad in [
        r#""payload":{},"native":"SELECT 1 AS r FROM 'a'""#,
        r#""payload":{},"native":"SELECT 1 AS r FROM 'a'","expect":1,"expect_error":true"#,
        r#""payload":{},"native":"SELECT 1 AS r FROM 'a'","expects":1"#,
        r#""native":"SELECT 1 AS r FROM 'a'","expect":1"#,
        r#""payload":{},"sql":"SELECT 1 AS r FROM 'a'","expect":1"#,
        r#""payload":{},"rule":"x","native":"SELECT 1 AS r FROM 'a'","expect":1"#,
    ] {
        let text = format!("{good}\n\n{}\n{good}", line(bad));
        let (cases, problems) = read(&text);
        assert_eq!((cases.len(), problems.len(), problems[0].line), (2, 1, 3), "{bad}");
        assert_eq!(run(&cases, &Alone, |_| true).passed, 2);
    }
}

#[test]
fn an_unknown_function_is_refused_and_a_wrong_number_of_arguments_is_undefined() {
    let aws = |sql: &str, rest: &str| {
        report(&line(&format!(r#""payload":{{}},"sqlVersion":"2016-03-23","sql":"SELECT {sql} AS r FROM 'a'",{rest}"#)))
            .passed
    };
    assert_eq!(aws("nosuch(1)", r#""expect_error":true"#), 1);
    assert_eq!(aws("cos()", r#""expect_undefined":true"#), 1);
    assert_eq!(aws("cos()", r#""expect_error":true"#), 0);
}

const SCRIPT: &str = "\
# comments
sql SELECT topic(2) AS k,
      a * 2 AS b, clientid() AS c
    FROM 't/+' WHERE a > 1

case: twice
with client dev-7
> t/1 {\"a\": 2}
< {\"k\": \"1\", \"b\": 4, \"c\": \"dev-7\"}
> t/2 {\"a\": 3,
       \"z\": 1}
< {\"b\": 6, ...}
< like ^.*\"k\":\"2\"
> t/3 {\"a\": 1}
< nothing
> t/3 no json
< nothing

case one of its own
sql SELECT VALUE encode(*, 'base64') FROM '#'
> x base64:AP8=
< \"AP8=\"
";

#[test]
fn a_script_is_read_and_judged() {
    let good = report(SCRIPT);
    assert_eq!((good.passed, good.failed.len()), (2, 0), "{good:?}");
    for (from, to) in [
        ("\"b\": 4", "\"b\": 5"),
        ("\"b\": 6", "\"b\": 7"),
        ("k\":\"2", "k\":\"3"),
        ("< like ^", "< elsewhere like ^"),
        ("< nothing", "< error"),
        ("dev-7\"}", "dev-8\"}"),
        ("\"AP8=\"\n", "\"AP9=\"\n"),
    ] {
        let wrong = report(&SCRIPT.replacen(from, to, 1));
        assert_eq!(wrong.failed.len(), 1, "{from}: {wrong:?}");
    }
    let failure = &report(&SCRIPT.replacen("\"b\": 4", "\"b\": 5", 1)).failed[0];
    let drawn = failure.render("farm.test", crate::diagnostic::Style::Plain);
    let expected = "\
FAILED farm.test:8: twice
  SELECT topic(2) AS k,
        a * 2 AS b, clientid() AS c
      FROM 't/+' WHERE a > 1
  > t/1 {\"a\": 2}
  - expected + got
    {
      \"k\": \"1\"
  -   \"b\": 5
  +   \"b\": 4
      \"c\": \"dev-7\"
    }
";
    assert_eq!(drawn, expected);
}

#[test]
fn mistakes_of_a_script_are_told_with_their_lines() {
    let text = "cse x\ncase a\n> t/1 {}\n< {}\n\nsql SELECT 1 AS r FROM 't/+'\ncase b\n> t/+ {}\n\ncase c\n> t/1 1\n\
                case d\nwith cleint x\n> t/1\n< {\"r\": 1}\ncase e\n> t/1\n< {\"r\": }\ncase f\n> t/1\n< {\"r\": 1}\n";
    let (cases, problems) = read(text);
    let lines: Vec<usize> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [1, 3, 8, 10, 13, 18], "{problems:#?}");
    assert_eq!(cases.iter().map(|case| case.id.as_str()).collect::<Vec<_>>(), ["f"]);
    assert!(problems[0].reason.contains("did you mean `case`"), "{}", problems[0].reason);
    assert!(problems[4].reason.contains("did you mean `client`"), "{}", problems[4].reason);
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (cases, _) = read(SCRIPT);
    let single: Vec<Case> = cases.into_iter().filter(|case| case.steps.len() == 1).collect();
    let report = mixed::run(&single, &Alone, 50, 1);
    assert_eq!((report.passed, report.skipped), (1, 0), "{report:?}");
}
