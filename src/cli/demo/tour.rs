//! What to look at when the count is done: a few questions with their answers, and lines to paste.

use std::path::Path;

use hedgerow_connectors::http::client::SqlResult;

use super::child::Server;
use super::folder::Folder;
use super::progress::Progress;
use crate::cli::table;

const QUESTIONS: [(&str, &str); 6] = [
    (
        "The lake, by sensor",
        "SELECT sensor_id, count(*) AS readings, round(avg(temperature), 2) AS mean, max(temperature) AS hottest \
         FROM farm_lake GROUP BY sensor_id ORDER BY hottest DESC LIMIT 5",
    ),
    (
        "The key-value table: one sensor's newest readings, found by key",
        "SELECT sensor_id, ts, temperature, humidity, ph FROM sensor_data WHERE sensor_id = '7' ORDER BY ts DESC LIMIT 3",
    ),
    (
        "What the AWS document archive.json stored",
        "SELECT device_type, received, _rest FROM archive WHERE device_type = 'sprinklers' ORDER BY received DESC LIMIT 3",
    ),
    (
        "Averages over ten seconds",
        "SELECT sensor, since, round(mean, 2) AS mean, n FROM averages ORDER BY since DESC, sensor LIMIT 5",
    ),
    (
        "Alerts that a rule published, which came through the log",
        "SELECT \"time\", topic, payload_text FROM ingest_log WHERE hops = 1 ORDER BY \"offset\" DESC LIMIT 3",
    ),
    (
        "The rules since the restart",
        "SELECT name, dialect, matched, passed, delivered, failed FROM system.rules ORDER BY name",
    ),
];

/// Asks and prints.
pub async fn questions(server: &Server, progress: &mut Progress) -> anyhow::Result<()> {
    for (title, sql) in QUESTIONS {
        let answer = server.client.sql(sql).await?;
        progress.say(format!("\n{title}:\n  {sql}\n{}", indented(&answer)));
    }
    Ok(())
}

fn indented(answer: &SqlResult) -> String {
    let head: Vec<String> = answer.columns.iter().map(|column| column.name.clone()).collect();
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(table::cell).collect()).collect();
    let lines: Vec<String> = table::render(&head, &rows).lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// Lines to paste into another terminal.
pub fn to_paste(server: &Server, folder: &Folder, progress: &mut Progress) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let program = shell(&program);
    let settings = shell(&folder.settings());
    let port = server.mqtt.port();
    let lake = folder.data().join("lake").join("farm_lake").join("_date=*").join("*.parquet");
    let python =
        format!("import duckdb; print(duckdb.sql(\"from read_parquet('{}', union_by_name=true)\"))", lake.display());
    progress.say(format!(
        "\nTry it, in another terminal:\n\
         \x20 {program} sub --port {port} --verbose 'alerts/#'\n\
         \x20 {program} pub --port {port} macdonald/sensors/7 '{{\"temperature\": 51.2, \"humidity\": 40}}'\n\
         \x20 mosquitto_sub -h {host} -p {port} -t 'macdonald/#' -v\n\
         \x20 {program} query --config {settings} 'SELECT topic, count(*) FROM ingest_log GROUP BY topic'\n\
         \x20 {program} rule status --config {settings}\n\
         \x20 {program} log inspect --config {settings}\n\
         \x20 python3 -c {python}",
        host = server.mqtt.ip(),
        python = quoted(&python),
    ));
    Ok(())
}

fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { quoted(&text) }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
