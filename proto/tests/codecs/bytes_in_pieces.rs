//! How a stream of frames behaves when the network cuts it up, lies about lengths, or sends noise. Both protocols.

use bytes::{Bytes, BytesMut};
use magnetar_proto::bookkeeper;
use magnetar_proto::pulsar::frame::{Decoder, Frame, FrameError, FrameTooLarge, encode, encode_with_payload};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::strategies::{bytes, command};

/// What a decoder may allocate beyond the announced frame: one read's worth.
const READ_ROOM_BYTES: usize = 64 * 1024;

fn frame() -> impl Strategy<Value = Frame> {
    (command(), bytes(300)).prop_map(|(command, payload)| Frame {
        command,
        payload: Some(payload).filter(|payload| !payload.is_empty()),
    })
}

fn stream_of(frames: &[Frame]) -> BytesMut {
    let mut stream = BytesMut::new();
    for Frame { command, payload } in frames {
        match payload {
            None => encode(command.clone(), &mut stream),
            Some(payload) => {
                encode_with_payload(command.clone(), payload.len(), &mut stream);
                stream.extend_from_slice(payload);
            }
        }
    }
    stream
}

fn drain(decoder: &mut Decoder, buf: &mut BytesMut) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.decode(buf).unwrap()).collect()
}

proptest! {
    #[test]
    fn frames_arrive_whole_wherever_the_stream_is_cut(
        frames in vec(frame(), 1..6),
        cuts in vec(1usize..200, 1..20),
    ) {
        let stream = stream_of(&frames);
        let mut decoder = Decoder::new(1 << 20);
        let (mut buf, mut received, mut at) = (BytesMut::new(), Vec::new(), 0);
        for cut in cuts.iter().cycle() {
            if at == stream.len() {
                break;
            }
            let end = stream.len().min(at + cut);
            buf.extend_from_slice(&stream[at..end]);
            received.extend(drain(&mut decoder, &mut buf));
            at = end;
        }
        prop_assert_eq!(received, frames);
        prop_assert!(buf.is_empty());
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(noise in vec(any::<u8>(), 0..400)) {
        let mut buf = BytesMut::from(&noise[..]);
        let mut decoder = Decoder::new(1 << 16);
        while let Ok(Some(_)) = decoder.decode(&mut buf) {}
        prop_assert!(buf.capacity() <= (1 << 16) + READ_ROOM_BYTES);
    }

    /// Noise rarely gets past the length field: here the lengths are right and only the command is noise.
    #[test]
    fn any_command_bytes_are_a_command_or_an_error(noise in vec(any::<u8>(), 0..100)) {
        let mut buf = BytesMut::new();
        buf.extend_from_slice(&(noise.len() as u32 + 4).to_be_bytes());
        buf.extend_from_slice(&(noise.len() as u32).to_be_bytes());
        buf.extend_from_slice(&noise);
        let _ = Decoder::new(1 << 16).decode(&mut buf);
    }

    #[test]
    fn bookkeeper_frames_arrive_whole_wherever_the_stream_is_cut(
        frames in vec(bytes(100), 1..6),
        cut in 1usize..50,
    ) {
        let mut stream = Vec::new();
        for frame in &frames {
            stream.extend_from_slice(&(frame.len() as u32).to_be_bytes());
            stream.extend_from_slice(frame);
        }
        let mut decoder = bookkeeper::frame::Decoder::new(100);
        let (mut buf, mut received) = (BytesMut::new(), Vec::new());
        for piece in stream.chunks(cut) {
            buf.extend_from_slice(piece);
            received.extend(std::iter::from_fn(|| decoder.decode(&mut buf).unwrap()));
        }
        prop_assert_eq!(received, frames);
    }
}

#[test]
fn every_single_cut_of_a_frame_waits_for_the_rest() {
    let payload = Some(Bytes::from_static(b"payload"));
    let command =
        magnetar_proto::pulsar::api::CommandSend { producer_id: 1, sequence_id: 2, ..Default::default() };
    let frames = [Frame { command: command.into(), payload }];
    let stream = stream_of(&frames);
    for cut in 0..stream.len() {
        let mut decoder = Decoder::new(1 << 20);
        let mut buf = BytesMut::from(&stream[..cut]);
        assert_eq!(decoder.decode(&mut buf), Ok(None), "{cut}");
        buf.extend_from_slice(&stream[cut..]);
        assert_eq!(drain(&mut decoder, &mut buf), frames, "{cut}");
    }
}

#[test]
fn a_payload_is_a_slice_of_the_read_buffer() {
    let payload = Bytes::from(vec![7; 1000]);
    let command = magnetar_proto::pulsar::api::CommandSend::default();
    let mut buf = stream_of(&[Frame { command: command.into(), payload: Some(payload) }]);
    let read_buffer = buf.as_ptr_range();
    let decoded = Decoder::new(1 << 20).decode(&mut buf).unwrap().unwrap().payload.unwrap();
    let decoded = decoded.as_ptr_range();
    assert!(read_buffer.start < decoded.start && decoded.end <= read_buffer.end);
}

#[test]
fn a_frame_over_the_limit_is_refused_before_anything_is_allocated() {
    let mut buf = BytesMut::from(&[0xff; 4][..]);
    let error = FrameTooLarge { size: u32::MAX as usize, max: 1000 };
    assert_eq!(Decoder::new(1000).decode(&mut buf), Err(FrameError::TooLarge(error)));
    assert_eq!(bookkeeper::frame::Decoder::new(1000).decode(&mut buf), Err(error));
    assert!(buf.capacity() < 1000);
}

#[test]
fn room_is_made_for_the_announced_frame() {
    let mut buf = BytesMut::from(&100_000u32.to_be_bytes()[..]);
    assert_eq!(Decoder::new(100_000).decode(&mut buf), Ok(None));
    assert!(buf.capacity() >= 100_004 && buf.capacity() <= 100_004 + READ_ROOM_BYTES);
}
