use std::sync::{Arc, Mutex};

use super::*;

fn request(commands: usize) -> Request {
    Request::resendable((0..commands).map(|_| redis::cmd("PING")))
}

/// Feeds bytes in pieces of at most this length.
fn feed(pipeline: &mut Pipeline, mut bytes: &[u8], piece: usize) -> Result<(), RedisError> {
    while !bytes.is_empty() {
        let space = pipeline.free_space()?;
        let length = bytes.len().min(piece).min(space.len());
        space[..length].copy_from_slice(&bytes[..length]);
        bytes = &bytes[length..];
        pipeline.received(length)?;
    }
    Ok(())
}

fn drain(pipeline: &mut Pipeline, piece: usize) -> Vec<u8> {
    let mut sent = Vec::new();
    while let Some(bytes) = pipeline.output() {
        let count = bytes.len().min(piece);
        sent.extend_from_slice(&bytes[..count]);
        pipeline.sent(count);
    }
    sent
}

fn texts(replies: &[Reply]) -> Vec<&[u8]> {
    let texts = replies.iter().map(|reply| match reply {
        Reply::Text(text) => &**text,
        _ => b"-",
    });
    texts.collect()
}

#[test]
fn requests_leave_whole_and_in_order_however_few_bytes_the_socket_takes() {
    for piece in [1, 7, usize::MAX] {
        let mut pipeline = Pipeline::default();
        let _first = pipeline.send(&request(2));
        let _second = pipeline.send(&request(1));
        assert!(pipeline.has_output());
        let sent = drain(&mut pipeline, piece);
        assert_eq!(sent, b"*1\r\n$4\r\nPING\r\n".repeat(3));
        assert!(!pipeline.has_output() && pipeline.in_flight() == 2);
    }
}

#[test]
fn replies_reach_who_asked_however_they_are_cut() {
    let bytes = b"$1\r\na\r\n$2\r\nbb\r\n$0\r\n\r\n";
    for piece in 1..=bytes.len() {
        let mut pipeline = Pipeline::default();
        let mut first = pipeline.send(&request(2));
        let mut second = pipeline.send(&request(1));
        feed(&mut pipeline, bytes, piece).unwrap();
        assert_eq!(
            texts(&first.try_recv().unwrap().unwrap()),
            [&b"a"[..], b"bb"]
        );
        assert_eq!(texts(&second.try_recv().unwrap().unwrap()), [b""]);
        assert!(pipeline.is_at_rest() && pipeline.in_flight() == 0);
    }
}

#[test]
fn replies_to_who_has_left_are_thrown_away_and_reach_nobody_else() {
    let mut pipeline = Pipeline::default();
    drop(pipeline.send(&request(2)));
    let mut second = pipeline.send(&request(1));
    feed(&mut pipeline, b"$1\r\na\r\n$1\r\nb\r\n", 1).unwrap();
    assert!(second.try_recv().is_err() && !pipeline.is_at_rest());
    feed(&mut pipeline, b"$1\r\nc\r\n", 1).unwrap();
    assert_eq!(texts(&second.try_recv().unwrap().unwrap()), [b"c"]);
}

#[test]
fn the_end_tells_each_what_came_and_sends_nothing_more() {
    let mut pipeline = Pipeline::default();
    let mut first = pipeline.send(&request(3));
    let mut second = pipeline.send(&request(1));
    feed(&mut pipeline, b"+OK\r\n:1\r\n$9\r\nhal", 2).unwrap();
    pipeline.end(None);
    let partial = first.try_recv().unwrap().unwrap_err();
    assert_eq!(partial.replies.len(), 2);
    assert!(partial.error.is_io_error());
    assert!(second.try_recv().unwrap().unwrap_err().replies.is_empty());
    assert!(!pipeline.has_output() && pipeline.in_flight() == 0);
}

#[test]
fn an_error_is_a_reply_and_what_is_no_reply_is_an_error() {
    let mut pipeline = Pipeline::default();
    let mut asked = pipeline.send(&request(2));
    feed(&mut pipeline, b"-OOM no\r\n+OK\r\n", 3).unwrap();
    assert_eq!(asked.try_recv().unwrap().unwrap().len(), 2);
    assert!(feed(&mut pipeline, b"+OK\r\n", 5).is_err(), "nobody asked");
    let mut pipeline = Pipeline::default();
    let _asked = pipeline.send(&request(1));
    assert!(feed(&mut pipeline, b"HTTP/1.1 400\r\n", 5).is_err());
    let push = b">2\r\n$10\r\ninvalidate\r\n*0\r\n";
    let mut pipeline = Pipeline::default();
    assert!(feed(&mut pipeline, push, 5).is_err(), "nobody listens");
}

#[test]
fn what_the_server_says_unasked_goes_to_who_listens_between_the_replies() {
    let bytes = b"+OK\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n:1\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n";
    for piece in 1..=bytes.len() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let mut pipeline = Pipeline::with_push(Box::new(move |said| {
            told.lock().unwrap().push(said);
        }));
        let mut asked = pipeline.send(&request(2));
        feed(&mut pipeline, bytes, piece).unwrap();
        assert_eq!(asked.try_recv().unwrap().unwrap().len(), 2);
        pipeline.end(None);
        let key = Value::Array(vec![Value::BulkString(b"k".to_vec())]);
        let said = |data| Some((PushKind::Invalidate, vec![data]));
        let expected = [said(key), said(Value::Nil), None];
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}

// Whatever the interleaving, each request gets its own replies or the first of them.
#[test]
fn no_interleaving_of_requests_leavers_and_bytes_mixes_replies_up() {
    crate::fuzz::fuzz("replies", &[], |_, chance| {
        let mut pipeline = Pipeline::default();
        let (mut asked, mut wire, mut next) = (Vec::new(), Vec::new(), 0);
        for _ in 0..chance.below(20) {
            let commands = 1 + chance.below(4);
            let replies = pipeline.send(&request(commands));
            let numbers: Vec<usize> = (next..next + commands).collect();
            next += commands;
            for number in &numbers {
                wire.extend_from_slice(
                    format!("${}\r\n{number}\r\n", number.to_string().len()).as_bytes(),
                );
            }
            if chance.below(4) > 0 {
                asked.push((replies, numbers));
            }
            let passing = chance.below(wire.len() + 1);
            let rest = wire.split_off(passing);
            feed(&mut pipeline, &wire, 1 + chance.below(9)).unwrap();
            wire = rest;
        }
        pipeline.end(None);
        for (mut replies, numbers) in asked {
            let (replies, whole) = match replies.try_recv().unwrap() {
                Ok(replies) => (replies, true),
                Err(partial) => (partial.replies, false),
            };
            assert!(replies.len() == numbers.len() || !whole);
            for (text, number) in texts(&replies).iter().zip(&numbers) {
                assert_eq!(*text, number.to_string().as_bytes());
            }
        }
    });
}

/// Every answer of these bytes, which come in pieces that are at most so long, and whether
/// they end in an error.
fn answers_in(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (String, bool) {
    let (mut read_buffer, mut all) = (ReadBuffer::default(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let free_space = read_buffer.free_space().unwrap();
        let length = rest.len().min(free_space.len()).min(piece());
        free_space[..length].copy_from_slice(&rest[..length]);
        rest = &rest[length..];
        read_buffer.received(length);
        loop {
            match read_buffer.reply() {
                Ok(Some(reply)) => all.push(reply),
                Ok(None) => break,
                Err(_) => return (format!("{all:?}"), true),
            }
        }
    }
    (format!("{all:?}"), false)
}

#[test]
fn a_large_value_is_read_into_one_buffer_that_is_made_ready_as_it_comes() {
    let length = 4 * STEP + 5;
    let mut answer = format!("${length}\r\n").into_bytes();
    answer.resize(answer.len() + length, b'x');
    answer.extend_from_slice(b"\r\n");
    let (mut read_buffer, mut read) = (ReadBuffer::default(), 0);
    let (mut buffers, mut ready) = (Vec::new(), Vec::new());
    while read < answer.len() {
        assert!(read_buffer.reply().unwrap().is_none());
        let free_space = read_buffer.free_space().unwrap();
        ready.push(read + free_space.len());
        let count = free_space.len().min(answer.len() - read).min(BUFFER);
        free_space[..count].copy_from_slice(&answer[read..read + count]);
        read_buffer.received(count);
        read += count;
        buffers.push(read_buffer.bytes.as_ptr());
    }
    buffers.dedup();
    assert_eq!(buffers.len(), 2, "the first is of {BUFFER} bytes");
    assert_eq!(ready[..2], [BUFFER, BUFFER + STEP]);
    let Ok(Some(Reply::Text(text))) = read_buffer.reply() else {
        panic!("no answer");
    };
    assert_eq!(
        (text.len(), read_buffer.reply().unwrap().is_none()),
        (length, true)
    );
}

#[test]
fn an_answer_that_there_is_no_memory_for_is_an_error() {
    let mut read_buffer = ReadBuffer {
        needed: usize::MAX / 2,
        ..ReadBuffer::default()
    };
    let refused = read_buffer.free_space().map(|space| space.len());
    assert_eq!(refused.unwrap_err().kind(), Kind::Memory);
}

#[test]
fn only_the_first_that_waits_is_told_that_there_is_no_memory() {
    let mut pipeline = Pipeline::default();
    let mut waiting = [(); 3].map(|()| pipeline.send(&request(1)));
    pipeline.end(Some(&Error::new(Kind::Memory, "none").into()));
    let told = waiting.each_mut().map(|waiting| {
        let partial = waiting.try_recv().unwrap().unwrap_err();
        Error::from_redis(&partial.error).kind() == Kind::Memory
    });
    assert_eq!(told, [true, false, false]);
}

#[test]
fn whatever_way_their_bytes_were_cut_answers_are_the_same() {
    let words: [&[u8]; 5] = [b"\r\n", b"$3\r\nabc\r\n", b"+OK\r\n", b"*2\r\n", b":1\r\n"];
    crate::fuzz::fuzz("replies", &words, |bytes, chance| {
        let longest = 1 + chance.below(20);
        let cut = answers_in(bytes, || 1 + chance.below(longest));
        assert_eq!(cut, answers_in(bytes, || usize::MAX));
    });
}

#[test]
fn small_requests_leave_in_one_write_and_what_is_large_or_alone_is_not_copied() {
    let of = |bytes: usize| Request {
        wire: vec![Bytes::from(vec![b'x'; bytes])],
        replies: 1,
        resendable: true,
        writes: false,
    };
    let sent = |requests: &[Request]| {
        let mut pipeline = Pipeline::default();
        for request in requests {
            drop(pipeline.send(request));
        }
        let bytes = pipeline.output().unwrap();
        (bytes.len(), bytes.as_ptr() == requests[0].wire[0].as_ptr())
    };
    let half = SMALL / 2;
    assert_eq!(sent(&[of(half), of(half)]), (SMALL, false));
    assert_eq!(sent(&[of(half), of(half + 1)]), (half, true));
    assert_eq!(sent(&[of(5)]), (5, true));
}

#[test]
fn bytes_of_a_part_of_an_answer_are_no_rest() {
    let mut pipeline = Pipeline::default();
    assert!(pipeline.is_at_rest());
    feed(&mut pipeline, b"$5\r\nab", 3).unwrap();
    assert!(!pipeline.is_at_rest(), "nobody waits, and something came");
}

#[test]
fn an_array_which_does_not_say_how_long_it_is_is_read_into_buffers_twice_as_long() {
    let items = 2_000;
    let item = format!("$1000\r\n{}\r\n", "x".repeat(1_000));
    let answer = format!("*{items}\r\n{}", item.repeat(items)).into_bytes();
    let (mut read_buffer, mut read, mut ready) = (ReadBuffer::default(), 0, Vec::new());
    while read < answer.len() {
        assert!(read_buffer.reply().unwrap().is_none());
        let free_space = read_buffer.free_space().unwrap();
        ready.push(read + free_space.len());
        let count = free_space.len().min(answer.len() - read);
        free_space[..count].copy_from_slice(&answer[read..read + count]);
        read_buffer.received(count);
        read += count;
    }
    assert_eq!(ready, [1, 2, 4, 8].map(|times| times * BUFFER));
    let Ok(Some(Reply::Other(Value::Array(read)))) = read_buffer.reply() else {
        panic!("no answer");
    };
    assert_eq!(read.len(), items);
}

/// The text of an answer that is read, and where the buffer was.
fn read_text(read_buffer: &mut ReadBuffer) -> (Bytes, *const u8) {
    let answer = b"$1\r\nx\r\n";
    let free_space = read_buffer.free_space().unwrap();
    let place = free_space.as_ptr();
    free_space[..answer.len()].copy_from_slice(answer);
    read_buffer.received(answer.len());
    let Ok(Some(Reply::Text(text))) = read_buffer.reply() else {
        panic!("no answer");
    };
    assert!(read_buffer.reply().unwrap().is_none());
    (text, place)
}

#[test]
fn buffers_whose_answers_are_gone_are_used_again_and_no_more_than_a_few_are_kept() {
    let mut read_buffer = ReadBuffer::default();
    let held: Vec<_> = (0..3 * KEPT).map(|_| read_text(&mut read_buffer)).collect();
    let mut places: Vec<_> = held.iter().map(|(_, place)| *place).collect();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), 3 * KEPT, "all have answers in use");
    assert_eq!(read_buffer.lent.len(), KEPT);
    let last = held.last().unwrap().1;
    drop(held);
    let held = read_text(&mut read_buffer);
    assert_eq!(held.1, last);
    let kept: Vec<_> = read_buffer.lent.iter().map(|lent| lent.as_ptr()).collect();
    assert!(kept.contains(&read_text(&mut read_buffer).1));
}

#[test]
fn a_buffer_stays_for_the_next_answer_unless_it_was_made_for_a_large_value() {
    for (length, stays) in [(10, true), (2 * BUFFER, false)] {
        let mut read_buffer = ReadBuffer::default();
        let mut answer = format!("${length}\r\n").into_bytes();
        answer.resize(answer.len() + length, b'x');
        answer.extend_from_slice(b"\r\n");
        let mut rest = &answer[..];
        while !rest.is_empty() {
            assert!(read_buffer.reply().unwrap().is_none());
            let free_space = read_buffer.free_space().unwrap();
            let count = free_space.len().min(rest.len());
            free_space[..count].copy_from_slice(&rest[..count]);
            read_buffer.received(count);
            rest = &rest[count..];
        }
        assert!(read_buffer.reply().unwrap().is_some());
        assert!(read_buffer.reply().unwrap().is_none());
        assert_eq!(!read_buffer.bytes.is_empty(), stays, "{length}");
    }
}
