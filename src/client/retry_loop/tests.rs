use super::*;

fn failed(error: std::io::ErrorKind, sent: bool) -> FailedAttempt {
    FailedAttempt {
        sent,
        ..FailedAttempt::unsent(std::io::Error::from(error).into())
    }
}

fn settings(operation_timeout: u64) -> ServerConfig {
    let mut config = ServerConfig::new("redis://h").unwrap();
    config.operation_timeout = Duration::from_secs(operation_timeout);
    config
}

#[test]
fn what_may_be_done_is_not_sent_again_unless_that_does_no_harm() {
    use std::io::ErrorKind::{ConnectionReset, TimedOut};

    let mut config = settings(60);
    for (kind, sent, resendable, again) in [
        (ConnectionReset, true, true, true),
        (ConnectionReset, true, false, false),
        (ConnectionReset, false, false, true),
        (TimedOut, true, true, true),
        (TimedOut, true, false, false),
    ] {
        let mut retry = RetryState::new(&config);
        let pause = retry.pause_after(resendable, &failed(kind, sent));
        assert_eq!(pause.is_some(), again, "{kind:?} {sent} {resendable}");
    }
    config.retry_on_timeout = false;
    let mut retry = RetryState::new(&config);
    assert!(retry.pause_after(true, &failed(TimedOut, true)).is_none());
    let reset = failed(ConnectionReset, true);
    assert!(retry.pause_after(true, &reset).is_some());
}

#[test]
fn attempts_and_time_are_limited_and_a_stale_connection_costs_none() {
    let config = settings(60);
    let mut retry = RetryState::new(&config);
    let lost = || failed(std::io::ErrorKind::ConnectionReset, false);
    let stale = || FailedAttempt {
        stale: true,
        ..lost()
    };
    assert_eq!(retry.pause_after(true, &stale()), Some(Duration::ZERO));
    for _ in 0..config.max_retries {
        let pause = retry.pause_after(true, &stale());
        assert!(pause.is_some_and(|pause| !pause.is_zero()));
    }
    assert!(retry.pause_after(true, &lost()).is_none());
    let text = retry.give_up(&config, true, &lost()).to_string();
    assert!(text.contains("(attempts: 4)") && !text.contains("applied"));
    let config = settings(0);
    let mut over = RetryState::new(&config);
    assert!(over.pause_after(true, &lost()).is_none());
    assert!(over.pause_after_redirect().is_none());
}

#[test]
fn redirections_take_no_time_until_they_go_to_and_fro() {
    let config = settings(60);
    let mut retry = RetryState::new(&config);
    for _ in 0..REDIRECTS {
        assert_eq!(retry.pause_after_redirect(), Some(Duration::ZERO));
    }
    assert!(!retry.pause_after_redirect().unwrap().is_zero());
}

#[test]
fn an_error_says_whether_an_attempt_before_may_have_been_done() {
    let config = settings(60);
    let lost = failed(std::io::ErrorKind::ConnectionReset, true);
    let unsent = failed(std::io::ErrorKind::ConnectionReset, false);
    let mut retry = RetryState::new(&config);
    assert!(!retry.give_up(&config, true, &unsent).may_be_done());
    retry.pause_after(false, &lost);
    let error = retry.give_up(&config, false, &lost);
    assert_eq!(error.kind(), Kind::Timeout);
    assert!(error.may_be_done() && error.to_string().contains("unknown"));
    let error = retry.give_up(&config, false, &unsent);
    assert!(error.may_be_done() && error.to_string().contains("may have been applied"));
    let error = retry.give_up(&config, true, &lost);
    assert!(!error.to_string().contains("unknown"));
}

#[test]
fn what_was_answered_before_an_attempt_failed_is_not_lost_with_the_rest() {
    let config = settings(60);
    let mut group = Group {
        commands: vec![0, 1, 2],
        kept: Vec::new(),
        retry_state: RetryState::new(&config),
        asked: None,
        pause: Duration::ZERO,
    };
    group.keep(vec![Reply::Other(Value::Int(1))], &[]);
    let replies = group.lost(Error::new(Kind::Unavailable, "lost"));
    assert!(matches!(
        replies[..],
        [Reply::Other(Value::Int(1)), Reply::Lost(_), Reply::Lost(_)]
    ));
}

#[test]
fn a_refusal_undoes_nothing_that_an_attempt_before_it_may_have_done() {
    let config = settings(60);
    let mut retry = RetryState::new(&config);
    let refused = || {
        let parsed = redis::parse_redis_value(b"-ERR no\r\n");
        Reply::Other(parsed.unwrap())
    };
    let answered = retry.answered(refused());
    assert!(matches!(answered, Reply::Other(Value::ServerError(_))));
    retry.pause_after(true, &failed(std::io::ErrorKind::ConnectionReset, true));
    let Reply::Lost(error) = retry.answered(refused()) else {
        panic!("it may have been done");
    };
    assert!(error.may_be_done());
    assert!(matches!(
        retry.answered(Reply::Other(Value::Okay)),
        Reply::Other(Value::Okay)
    ));
}

#[tokio::test(start_paused = true)]
async fn at_its_deadline_a_call_is_over() {
    let config = settings(1);
    let mut retry = RetryState::new(&config);
    retry.backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
    tokio::time::advance(Duration::from_millis(999)).await;
    assert_eq!(retry.pause_unless_over(), Some(Duration::ZERO));
    assert_eq!(retry.pause_after_redirect(), Some(Duration::ZERO));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(retry.pause_unless_over().is_none());
    assert!(retry.pause_after_redirect().is_none());
}
