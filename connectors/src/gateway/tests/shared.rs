//! Shared subscriptions: each message to one member, fairly, and to another one if the first leaves.

use super::*;

const EXPIRY: [u8; 5] = [17, 0, 0, 0x0E, 0x10];

async fn member(server: &Server, client_id: &str, properties: &[u8], path: &str) -> Raw {
    let (mut raw, _) = server.v5(client_id, false, properties).await;
    assert_eq!(raw.subscribe(path, 1).await, 1);
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn members_take_turns() {
    let server = Server::start().await;
    let mut members = Vec::new();
    for at in 0..3 {
        members.push(member(&server, &format!("m{at}"), &[], "$share/g/t/+").await);
    }
    let mut other = member(&server, "other", &[], "$share/h/t/#").await;
    let mut plain = member(&server, "plain", &[], "t/1").await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    publisher.retain("t/1", "0", &[]).await;
    for id in 1..30 {
        publisher.publish_1("t/1", id, &id.to_string()).await;
    }
    for id in 0..30 {
        assert_eq!(plain.take().await.payload, id.to_string());
        assert_eq!(other.take().await.payload, id.to_string());
    }
    let mut all = Vec::new();
    for member in &mut members {
        for _ in 0..10 {
            all.push(member.take().await.payload.parse::<u16>().unwrap());
        }
        member.nothing().await;
    }
    all.sort_unstable();
    assert_eq!(all, (0..30).collect::<Vec<_>>());
    // A retained message is not for a shared subscription.
    let mut late = member(&server, "late", &[], "$share/late/t/#").await;
    late.nothing().await;
    assert_eq!(late.unsubscribe("$share/late/t/#").await, [0xB0, 4, 0, 78, 0, 0]);
    publisher.publish_1("t/1", 99, "x").await;
    late.nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_leaves_behind_goes_to_the_others() {
    let server = Server::start().await;
    let mut stays = member(&server, "stays", &[], "$share/g/t").await;
    let mut leaves = member(&server, "leaves", &[], "$share/g/t").await;
    let mut sleeps = member(&server, "sleeps", &EXPIRY, "$share/g/t").await;
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    for id in 1..=9 {
        publisher.publish_1("t", id, &id.to_string()).await;
    }
    let mut got = Vec::new();
    for _ in 0..3 {
        got.push(stays.take().await.payload);
        // Not acknowledged.
        leaves.message().await;
        sleeps.message().await;
    }
    leaves.leave().await;
    for _ in 0..1 {
        got.push(stays.take().await.payload);
    }
    // Turn and turn about: the one that stays and the one with a session.
    sleeps.message().await;
    got.push(stays.take().await.payload);
    drop(sleeps);
    until("it sleeps", || !server.session("sleeps").unwrap().connected).await;
    // A sleeping member gets nothing while another is there.
    for id in 10..=12 {
        publisher.publish_1("t", id, &id.to_string()).await;
        got.push(stays.take().await.payload);
    }
    // Its session ends: what it had is for the one that is left.
    server.clock.advance(Duration::from_secs(3601));
    for _ in 0..4 {
        got.push(stays.take().await.payload);
    }
    stays.nothing().await;
    let mut numbers: Vec<u16> = got.iter().map(|payload| payload.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
    assert_eq!(server.metrics().rerouted.get(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_sleepers_keeps_its_messages_over_a_restart() {
    let mut server = Server::start().await;
    for at in 0..2 {
        member(&server, &format!("m{at}"), &EXPIRY, "$share/g/t").await.leave().await;
    }
    let (mut publisher, _) = server.v5("p", true, &[]).await;
    for id in 1..=4 {
        publisher.publish_1("t", id, &id.to_string()).await;
    }
    server.restart().await;
    // One is thrown away; the other, alone and awake, has it all.
    let (mut first, present) = server.v5("m0", false, &EXPIRY).await;
    assert!(present);
    let mut got = vec![first.take().await.payload, first.take().await.payload];
    let (_second, present) = server.v5("m1", true, &[]).await;
    assert!(!present);
    got.extend([first.take().await.payload, first.take().await.payload]);
    got.sort_unstable();
    assert_eq!(got, ["1", "2", "3", "4"]);
}
