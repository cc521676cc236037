//! Whose turn it is to write, with tasks that write and a client that reads when it is told to.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use proptest::prelude::*;

use super::*;
use crate::http1::rig::Narrow;
use crate::http2::frame::Frame;
use crate::metrics;
use crate::proxy::Settings;
use crate::proxy::streams::Tally;
use crate::snapshot::Snapshot;

/// A window that nothing exhausts.
const WIDE: u32 = 1 << 30;

/// Frames that leave at once.
const AT_ONCE: usize = FULL_BYTES / LARGEST_BYTES;

/// Streams that write, each in a task, and a client that reads when it is told to.
struct Rig {
    wire: Rc<Wire>,
    /// Run in the order in which they are woken.
    tasks: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    taken: Narrow,
}

/// Whether a task was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

// === impl Rig ===

impl Rig {
    /// A client that takes as much on its connection as nobody has said otherwise.
    fn new() -> Self {
        let published = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let metrics = metrics::Worker::apart();
        let slot = Slot::new(metrics.handled());
        let worker = Worker::new(Arc::new(Settings::default()), published, metrics, None);
        Self {
            wire: Wire::new(worker, slot),
            tasks: FuturesUnordered::new(),
            taken: Narrow { taken: Vec::new(), step: usize::MAX },
        }
    }

    /// A client that takes everything on its connection.
    fn wide() -> Self {
        let rig = Self::new();
        rig.wire.widen(WIDE).unwrap();
        rig
    }

    /// A stream that has `bytes` to write, and of which the client takes `window`.
    fn stream(&self, id: u32, bytes: usize, window: u32) -> Rc<Stream> {
        let asked = Rc::<Tally>::default().asked();
        let stream = Rc::new(Stream::new(id, Sending::new(window), asked, None, true));
        self.wire.add(stream.clone());
        let (wire, writing) = (self.wire.clone(), stream.clone());
        let mut data = Bytes::from(vec![b'x'; bytes]);
        self.tasks.push(Box::pin(poll_fn(move |cx| {
            writing.woken_by(cx.waker());
            if !writing.is_over() {
                if wire.poll_write_data(&writing, &mut data, true).is_pending() {
                    return Poll::Pending;
                }
                wire.finish(&writing);
            }
            Poll::Ready(())
        })));
        stream
    }

    /// Lets the tasks go on until none can.
    fn run(&mut self) {
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = woken.clone().into();
        while woken.0.swap(false, Ordering::Relaxed) {
            let mut cx = Context::from_waker(&waker);
            while let Poll::Ready(Some(())) = self.tasks.poll_next_unpin(&mut cx) {}
        }
    }

    /// Has the client read what there is: of which streams it is, a frame each, and how long.
    fn read(&mut self) -> Vec<(u32, usize)> {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(self.wire.poll_flush(&mut self.taken, &mut cx).is_ready());
        let mut input = BytesMut::from(&mem::take(&mut self.taken.taken)[..]);
        let mut frames = Vec::new();
        while let Some((frame, _)) = frame::take(&mut input).unwrap() {
            if let Frame::Data { stream, data, .. } = frame {
                frames.push((stream, data.len()));
            }
        }
        assert!(input.is_empty());
        frames
    }

    /// Has the client read for as long as anything comes.
    fn read_all(&mut self) -> Vec<(u32, usize)> {
        let mut all = Vec::new();
        loop {
            self.run();
            let frames = self.read();
            if frames.is_empty() {
                return all;
            }
            all.extend(frames);
        }
    }
}

fn ids(frames: &[(u32, usize)]) -> Vec<u32> {
    frames.iter().map(|(id, _)| *id).collect()
}

fn bytes(frames: &[(u32, usize)]) -> usize {
    frames.iter().map(|(_, bytes)| bytes).sum()
}

fn bytes_of(id: u32, frames: &[(u32, usize)]) -> usize {
    frames.iter().filter(|(of, _)| *of == id).map(|(_, bytes)| bytes).sum()
}

#[test]
fn streams_write_a_frame_each_in_the_order_in_which_they_asked() {
    let mut rig = Rig::wide();
    for id in [1, 3, 5, 7, 9] {
        rig.stream(id, 8 * LARGEST_BYTES, WIDE);
    }
    let frames = rig.read_all();
    // The first has nobody beside it until as much is there as leaves at once.
    let mut turns = vec![1; AT_ONCE];
    turns.extend([1, 3, 5, 7, 9].repeat(8 - AT_ONCE));
    turns.extend([3, 5, 7, 9].repeat(AT_ONCE));
    assert_eq!(ids(&frames), turns);
    assert_eq!(rig.wire.streams(), 0);
}

#[test]
fn two_streams_fill_what_leaves_at_once_and_share_it() {
    let mut rig = Rig::wide();
    for id in [1, 3] {
        rig.stream(id, 8 * LARGEST_BYTES, WIDE);
    }
    rig.run();
    assert_eq!(ids(&rig.read()), [1; AT_ONCE]);
    for _ in 0..2 {
        rig.run();
        assert_eq!(ids(&rig.read()), [1, 3].repeat(AT_ONCE / 2));
    }
    assert_eq!(ids(&rig.read_all()), [3; AT_ONCE]);
}

#[test]
fn a_stream_whose_window_is_exhausted_does_not_hold_others_up_and_comes_back() {
    let mut rig = Rig::wide();
    let total = 8 * LARGEST_BYTES;
    let shut = [1, 5].map(|id| rig.stream(id, total, 20_000));
    for id in [3, 7] {
        rig.stream(id, total, WIDE);
    }
    let frames = rig.read_all();
    assert_eq!([1, 3, 5, 7].map(|id| bytes_of(id, &frames)), [20_000, total, 20_000, total]);
    // By less than is left, and by more.
    for (by, written) in [(1_000, 1_000), (i64::from(WIDE), total - 21_000)] {
        for stream in &shut {
            stream.widen(by).unwrap();
        }
        let frames = rig.read_all();
        assert_eq!([1, 5].map(|id| bytes_of(id, &frames)), [written; 2]);
    }
    assert_eq!(rig.wire.streams(), 0);
}

#[test]
fn a_turn_that_a_stream_cannot_use_is_anothers() {
    let mut rig = Rig::wide();
    let window = FIRST_WINDOW_BYTES;
    for id in [1, 3, 5, 7, 9] {
        rig.stream(id, 5 * LARGEST_BYTES, window);
    }
    rig.stream(11, LARGEST_BYTES, 2 * window);
    rig.run();
    assert_eq!(ids(&rig.read()), [1; AT_ONCE]);
    // It is the turn of the next four; before they take it, the client narrows all
    // windows, and theirs to nothing.
    rig.wire.set(Setting::Window(0)).unwrap();
    assert_eq!(rig.read_all(), [(11, LARGEST_BYTES)]);
    rig.wire.set(Setting::Window(WIDE)).unwrap();
    rig.read_all();
    assert_eq!(rig.wire.streams(), 0);
}

#[test]
fn a_connections_window_opens_for_all_of_its_streams_in_turn() {
    let mut rig = Rig::new();
    let total = 50_000;
    for id in [1, 3, 5] {
        rig.stream(id, total, WIDE);
    }
    let mut frames = rig.read_all();
    let first = FIRST_WINDOW_BYTES as usize;
    assert_eq!(bytes(&frames), first);
    // The first stream is through, and the second under way.
    for id in [7, 9] {
        rig.stream(id, total, WIDE);
    }
    assert_eq!(rig.read_all(), []);
    // Opened by less than a frame it is one stream's at a time, but not always the same one's.
    for id in [3, 5, 7, 9].repeat(3) {
        rig.wire.widen(1_000).unwrap();
        let more = rig.read_all();
        assert_eq!(more, [(id, 1_000)]);
        frames.extend(more);
    }
    // And by a few frames.
    while bytes(&frames) < 5 * total {
        rig.wire.widen(40_000).unwrap();
        let more = rig.read_all();
        assert_eq!(bytes(&more), (5 * total - bytes(&frames)).min(40_000));
        frames.extend(more);
    }
    assert_eq!([1, 3, 5, 7, 9].map(|id| bytes_of(id, &frames)), [total; 5]);
    assert_eq!(rig.wire.streams(), 0);
}

#[test]
fn a_stream_that_is_reset_leaves_its_turn_to_others() {
    let mut rig = Rig::wide();
    let streams = [1, 3, 5, 7, 9, 11, 13].map(|id| rig.stream(id, 5 * LARGEST_BYTES, WIDE));
    rig.run();
    // While it waits.
    rig.wire.reset(&streams[1], Code::NO_ERROR);
    assert_eq!(ids(&rig.read()), [1; AT_ONCE]);
    // When it is its turn.
    for turn in [0, 2, 3, 4] {
        rig.wire.reset(&streams[turn], Code::NO_ERROR);
    }
    let frames = rig.read_all();
    assert_eq!(ids(&frames), [11, 13].repeat(5));
}

#[test]
fn nothing_is_kept_of_streams_that_are_reset_while_the_client_takes_nothing() {
    let mut rig = Rig::new();
    rig.stream(1, FIRST_WINDOW_BYTES as usize + 1, WIDE);
    rig.read_all();
    for id in [3, 5, 7] {
        let stream = rig.stream(id, 10, WIDE);
        rig.run();
        assert_eq!(rig.wire.state.borrow().waiting.len(), 2);
        rig.wire.remove(&stream);
        stream.end();
        rig.run();
        assert_eq!(rig.wire.state.borrow().waiting.len(), 1);
        assert_eq!(Rc::strong_count(&stream), 1);
    }
    rig.wire.widen(1).unwrap();
    assert_eq!(rig.read_all(), [(1, 1)]);
}

/// Something that happens on a connection. Streams are meant by their number.
#[derive(Debug, Clone)]
enum Event {
    /// A response of so many bytes is there to be written.
    Answer(usize),
    Run,
    Read,
    Widen(u32),
    WidenStream(usize, u32),
    SetWindow(u32),
    Reset(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_usize..100_000).prop_map(Event::Answer),
        3 => Just(Event::Run),
        3 => Just(Event::Read),
        2 => (1_u32..50_000).prop_map(Event::Widen),
        2 => (0_usize..8, 1_u32..50_000).prop_map(|(at, by)| Event::WidenStream(at, by)),
        1 => (0_u32..100_000).prop_map(Event::SetWindow),
        1 => (0_usize..8).prop_map(Event::Reset),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_every_stream_comes_to_its_end(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut rig = Rig::new();
        let mut streams = Vec::new();
        let mut expected = Vec::new();
        let mut frames = Vec::new();
        for event in events {
            match event {
                Event::Answer(bytes) => {
                    let id = 2 * streams.len() as u32 + 1;
                    let window = rig.wire.state.borrow().stream_window;
                    streams.push(rig.stream(id, bytes, window));
                    expected.push((id, bytes));
                }
                Event::Run => rig.run(),
                Event::Read => frames.extend(rig.read()),
                Event::Widen(by) => rig.wire.widen(by).unwrap(),
                Event::WidenStream(at, by) => {
                    if let Some(stream) = streams.get(at) {
                        stream.widen(i64::from(by)).unwrap();
                    }
                }
                Event::SetWindow(bytes) => rig.wire.set(Setting::Window(bytes)).unwrap(),
                Event::Reset(at) => {
                    let stream = streams.get(at);
                    if let Some(stream) = stream.and_then(|stream| rig.wire.stream(stream.id)) {
                        rig.wire.reset(&stream, Code::NO_ERROR);
                        expected.retain(|(id, _)| *id != stream.id);
                    }
                }
            }
            let state = rig.wire.state.borrow();
            let has_turn = |stream: &&Rc<Stream>| stream.granted.get();
            prop_assert_eq!(state.granted, state.streams.iter().filter(has_turn).count());
            let is_open = |stream: &Rc<Stream>| state.find(stream.id).is_some();
            prop_assert!(state.waiting.iter().all(is_open));
        }
        rig.wire.set(Setting::Window(WIDE)).unwrap();
        rig.wire.widen(WIDE).unwrap();
        frames.extend(rig.read_all());
        for (id, bytes) in expected {
            prop_assert_eq!(bytes_of(id, &frames), bytes);
        }
        prop_assert_eq!(rig.wire.streams(), 0);
    }
}
