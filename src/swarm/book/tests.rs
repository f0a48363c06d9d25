use super::*;

const S: Duration = Duration::from_secs(1);

/// A book of the lowest peer of `count`, and the others.
fn book(count: usize) -> (Book, Vec<PeerId>) {
    let mut peers: Vec<PeerId> = (0..count).map(|_| PeerId::random()).collect();
    peers.sort();
    let me = peers.remove(0);
    let mut number = 0;
    let random = move || {
        number += 7;
        number
    };
    (Book::new(me, Box::new(random)), peers)
}

fn address(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn lan() -> Vec<Multiaddr> {
    vec![address("/ip4/10.0.0.2/tcp/4001")]
}

fn due(book: &mut Book, now: Instant) -> Vec<PeerId> {
    book.due(now, 100, |_| true).into_iter().map(|(peer, _)| peer).collect()
}

#[test]
fn a_known_peer_is_due_at_once_and_after_failures_later_and_later_but_within_the_longest_delay() {
    let (mut book, peers) = book(2);
    let mut now = Instant::now();
    assert!(book.add(peers[0], &lan(), Source::Trusted, now));
    assert_eq!(book.due(now, 1, |_| true), [(peers[0], lan())]);
    assert_eq!(book.due(now, 1, |_| true), [], "it is being dialled");
    assert_eq!(book.deadline(), None);
    let mut delays = Vec::new();
    for _ in 0..20 {
        book.failed(&peers[0], now);
        let at = book.deadline().unwrap();
        assert_eq!(due(&mut book, at - Duration::from_millis(1)), []);
        assert_eq!(due(&mut book, at), peers);
        delays.push(at - now);
        now = at;
    }
    assert!(delays[0] <= FIRST_DELAY, "{delays:?}");
    assert!(delays[19] >= LONGEST_DELAY / 2 && delays[19] <= LONGEST_DELAY, "{delays:?}");
}

#[test]
fn of_more_peers_than_there_are_places_chance_chooses_and_the_others_stay_due() {
    let (mut book, peers) = book(51);
    let now = Instant::now();
    for peer in &peers {
        book.add(*peer, &lan(), Source::Trusted, now);
    }
    let mut chosen: Vec<PeerId> =
        book.due(now, 16, |_| true).into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(chosen.len(), 16);
    assert_ne!(chosen, peers[..16]);
    chosen.extend(due(&mut book, now));
    chosen.sort();
    assert_eq!(chosen, peers);
}

#[test]
fn of_two_peers_that_mdns_shows_to_each_other_the_lower_one_dials_and_the_other_after_its_turn() {
    let (mut lower, peers) = book(2);
    let me = lower.me;
    let mut higher = Book::new(peers[0], Box::new(|| 0));
    let now = Instant::now();
    lower.add(peers[0], &lan(), Source::Mdns, now);
    higher.add(me, &lan(), Source::Mdns, now);
    assert_eq!(due(&mut lower, now), peers);
    assert_eq!(due(&mut higher, now), []);
    assert_eq!(higher.deadline(), Some(now + TURN));
    assert_eq!(due(&mut higher, now + TURN), [me]);
}

/// Once a peer that mDNS had named was forgotten after five dials that failed, within eight seconds:
/// mDNS tells of a peer once, so one whose cable was out for a minute was not found again.
#[test]
fn a_peer_from_the_lan_that_is_out_of_reach_for_a_minute_is_dialled_until_it_is_back() {
    let (mut book, peers) = book(2);
    let start = Instant::now();
    book.add(peers[0], &lan(), Source::Mdns, start);
    let (mut now, mut pauses) = (start, Vec::new());
    while now < start + 3600 * S {
        assert_eq!(due(&mut book, now), peers);
        book.failed(&peers[0], now);
        let at = book.deadline().unwrap();
        pauses.push(at - now);
        now = at;
    }
    let tried: Vec<Duration> = pauses
        .iter()
        .scan(Duration::ZERO, |at, pause| {
            *at += *pause;
            Some(*at)
        })
        .collect();
    assert!(tried.iter().any(|at| *at >= 60 * S && *at <= 130 * S), "{tried:?}");
    assert!(pauses.iter().all(|pause| *pause <= STRANGER_DELAY), "{pauses:?}");
    assert!(pauses.len() < 40, "strangers are not dialled all day: {pauses:?}");
}

#[test]
fn a_stranger_from_the_lan_is_forgotten_once_nobody_announces_it_and_a_peer_that_was_met_is_not() {
    let (mut book, peers) = book(3);
    let now = Instant::now();
    let both = [address("/ip4/10.0.0.2/tcp/4001"), address("/ip4/10.0.1.2/tcp/4001")];
    for peer in &peers {
        book.add(*peer, &both, Source::Mdns, now);
    }
    book.connected(&peers[1], now);
    book.trust(&peers[1]);
    book.closed(&peers[1], now + LASTING);
    for peer in &peers {
        book.no_longer_announced(peer, &both[0]);
        assert!(!book.addresses(peer).is_empty());
        book.no_longer_announced(peer, &both[1]);
    }
    assert_eq!(book.peers.keys().collect::<Vec<_>>(), [&peers[1]]);
    assert_eq!(book.addresses(&peers[1]).len(), 2);
}

#[test]
fn a_peer_refuses_us_that_hangs_up_twice_in_a_row_with_no_word_and_no_failure_between() {
    let (mut book, peers) = book(2);
    let now = Instant::now();
    book.add(peers[0], &lan(), Source::Trusted, now);
    assert!(!book.hung_up(&peers[0]));
    assert!(book.hung_up(&peers[0]));
    book.trust(&peers[0]);
    assert!(!book.hung_up(&peers[0]));
    book.failed(&peers[0], now);
    assert!(!book.hung_up(&peers[0]));
}

#[test]
fn the_loopback_is_told_to_others_only_where_there_is_nothing_else() {
    let loopback = ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/1"].map(address);
    assert_eq!(for_others(loopback.to_vec()), loopback);
    let both = [&loopback[..], &lan()].concat();
    assert_eq!(for_others(both), lan());
}

#[test]
fn a_peer_that_closes_each_connection_at_once_is_dialled_less_and_less_often() {
    let (mut book, peers) = book(2);
    let mut now = Instant::now();
    book.add(peers[0], &lan(), Source::Trusted, now);
    for _ in 0..10 {
        assert_eq!(due(&mut book, now), peers);
        book.connected(&peers[0], now);
        book.closed(&peers[0], now);
        now = book.deadline().unwrap();
    }
    book.connected(&peers[0], now);
    let lasted = now + LASTING;
    book.closed(&peers[0], lasted);
    assert!(book.deadline().unwrap() <= lasted + FIRST_DELAY, "a connection that lasted is good");
}

#[test]
fn after_the_network_changed_everybody_is_tried_soon() {
    let (mut book, peers) = book(2);
    let now = Instant::now();
    book.add(peers[0], &lan(), Source::Trusted, now);
    for _ in 0..20 {
        book.failed(&peers[0], now);
    }
    assert!(book.deadline().unwrap() > now + 10 * S);
    book.hurry(now);
    assert!(book.deadline().unwrap() <= now + FIRST_DELAY);
}

#[test]
fn who_may_not_be_dialled_is_not_and_does_not_keep_the_timer_running() {
    let (mut book, peers) = book(2);
    let now = Instant::now();
    book.add(peers[0], &lan(), Source::Trusted, now);
    assert_eq!(book.due(now, 1, |_| false), []);
    assert!(book.deadline().unwrap() > now);
}

#[test]
fn only_addresses_that_can_be_dialled_are_kept_the_newest_first_and_not_too_many() {
    let (mut book, peers) = book(2);
    let now = Instant::now();
    let useless =
        ["/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4/tcp/0", "/dns4/a.b/tcp/1"]
            .map(address);
    assert!(!book.add(peers[0], &useless, Source::Trusted, now));
    assert_eq!(due(&mut book, now), [], "nothing to dial");
    for port in 1..=20 {
        let new = address(&format!("/ip4/1.2.3.4/tcp/{port}/p2p/{}", peers[0]));
        assert!(book.add(peers[0], std::slice::from_ref(&new), Source::Trusted, now));
        assert!(!book.add(peers[0], &[new], Source::Trusted, now));
    }
    let kept = book.addresses(&peers[0]);
    assert_eq!(kept.len(), MAX_ADDRESSES);
    assert_eq!(kept[0], address("/ip4/1.2.3.4/tcp/20"));
    book.forget_address(&peers[0], &kept[0]);
    assert_eq!(book.addresses(&peers[0])[0], address("/ip4/1.2.3.4/tcp/19"));
}

#[test]
fn a_full_book_takes_a_new_peer_for_one_that_does_not_answer_and_for_no_other() {
    let (mut book, peers) = book(MAX_PEERS + 3);
    let now = Instant::now();
    for peer in &peers[..MAX_PEERS] {
        assert!(book.add(*peer, &lan(), Source::Trusted, now));
    }
    assert!(!book.add(peers[MAX_PEERS], &lan(), Source::Trusted, now));
    book.dialling(&peers[5]);
    book.failed(&peers[5], now);
    assert!(book.add(peers[MAX_PEERS], &lan(), Source::Trusted, now));
    assert!(book.addresses(&peers[5]).is_empty());
    assert!(!book.add(book.me, &lan(), Source::Trusted, now), "not myself");
}
