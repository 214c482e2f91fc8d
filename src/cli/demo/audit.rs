//! Asking the server, over HTTP as anybody would, what it has.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hedgerow_connectors::http::client::Client;
use serde::Deserialize;
use serde_json::Value;

use super::tally::{Evidence, Logged};

/// What is above this raises an alert, say the example rules.
const HOT: f64 = 50.0;
/// Between looks at whether everything has arrived.
const LOOK: Duration = Duration::from_millis(200);

const LOGGED: &str = "ingest_log WHERE kind = 'message' AND hops = 0 AND topic LIKE 'macdonald/%'";

/// Waits until what is logged has reached all sinks; returns whether it did within `limit`.
pub async fn settle(client: &Client, limit: Duration) -> anyhow::Result<bool> {
    let since = Instant::now();
    let logged = rows(client, &format!("SELECT count(*), coalesce(max(epoch), 0) FROM {LOGGED}")).await?;
    let [all, epoch] = integers(logged.first().context("no counts")?)?;
    let sensors = format!("SELECT count(*) FROM {LOGGED} AND topic LIKE 'macdonald/sensors/%'");
    let [sensors] = integers(rows(client, &sensors).await?.first().context("no count")?)?;
    let arrived = "SELECT (SELECT count(*) FROM farm_archive) AS archive, (SELECT count(*) FROM farm_lake) AS lake, \
                   (SELECT min(taken) FROM system.sinks WHERE kind <> 'lake') AS taken";
    loop {
        let found = rows(client, arrived).await?;
        let [archive, lake, taken] = integers(found.first().context("no counts")?)?;
        if archive >= all && lake >= sensors && taken >= epoch {
            return Ok(true);
        }
        if since.elapsed() > limit {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Everything that the count needs.
pub async fn gather(client: &Client) -> anyhow::Result<Evidence> {
    let logged =
        format!("SELECT \"offset\", epoch, CAST(\"time\" AS BIGINT), client_id, topic, payload_text FROM {LOGGED}");
    let offsets = async |lake: &str| -> anyhow::Result<Vec<i64>> {
        let found = rows(client, &format!("SELECT _offset FROM {lake}")).await?;
        found.iter().map(|row| integers(row).map(|[offset]| offset)).collect()
    };
    let alerts = "SELECT origin FROM ingest_log WHERE kind = 'message' AND hops = 1 AND topic LIKE 'alerts/%'";
    let table = "SELECT ts, sensor_id, _rest FROM sensor_data";
    let windows = "SELECT since, n, sensor FROM averages";
    Ok(Evidence {
        logged: rows(client, &logged).await?.iter().map(|row| record(row)).collect::<anyhow::Result<_>>()?,
        archive: offsets("farm_archive").await?,
        lake: offsets("farm_lake").await?,
        table: rows(client, table).await?.iter().map(|row| reading(row)).collect::<anyhow::Result<_>>()?,
        windows: rows(client, windows).await?.iter().map(|row| window(row)).collect::<anyhow::Result<_>>()?,
        alerts: rows(client, alerts).await?.iter().map(|row| text(row.first())).collect::<anyhow::Result<_>>()?,
    })
}

/// What the count needs of a payload.
#[derive(Deserialize)]
struct Payload {
    seq: u64,
    #[serde(default)]
    temperature: f64,
}

fn record(row: &[Value]) -> anyhow::Result<Logged> {
    let [offset, epoch, time_ms] = integers(row)?;
    let client = text(row.get(3))?;
    let topic = text(row.get(4))?;
    let payload = text(row.get(5))?;
    let payload: Payload = serde_json::from_str(&payload).with_context(|| format!("{topic}: {payload}"))?;
    Ok(Logged {
        offset,
        epoch,
        time_ms,
        client,
        sequence: payload.seq,
        device: topic.rsplit('/').next().unwrap_or_default().to_owned(),
        sensor: topic.starts_with("macdonald/sensors/"),
        hot: payload.temperature > HOT,
    })
}

/// A row of the key-value table; members without a column of their own are in `_rest`.
fn reading(row: &[Value]) -> anyhow::Result<(String, i64, u64)> {
    let [time_ms] = integers(row)?;
    let rest: Payload = serde_json::from_str(&text(row.get(2))?)?;
    Ok((text(row.get(1))?, time_ms, rest.seq))
}

fn window(row: &[Value]) -> anyhow::Result<(String, i64, u64)> {
    let [since, count] = integers(row)?;
    Ok((text(row.get(2))?, since, u64::try_from(count)?))
}

/// The rows of an answer, all of them.
pub async fn rows(client: &Client, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    let result = client.sql(sql).await.with_context(|| sql.to_owned())?;
    if result.truncated {
        bail!("{sql}: more rows than a query gives (query.max_rows); a lower --rate makes fewer");
    }
    Ok(result.rows)
}

/// The first `N` values of a row as whole numbers.
pub fn integers<const N: usize>(row: &[Value]) -> anyhow::Result<[i64; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        let value = row.get(index).with_context(|| format!("no column {index}"))?;
        *number = value.as_i64().with_context(|| format!("column {index} is {value}, not a whole number"))?;
    }
    Ok(numbers)
}

fn text(value: Option<&Value>) -> anyhow::Result<String> {
    match value {
        Some(Value::String(text)) => Ok(text.clone()),
        other => bail!("not a text: {other:?}"),
    }
}
