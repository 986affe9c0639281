//! Undoing compression, with a cap on what comes out.

use std::io::Read;

use bytes::Bytes;

/// What begins a body in the framing of Java's snappy library; two version numbers follow.
const XERIAL: &[u8] = b"\x82SNAPPY\x00";
/// One step of snappy gives at most so many bytes for one that it reads.
const SNAPPY_MOST: usize = 64;

/// The bytes of the records of a batch, of which there may be at most `cap`.
///
/// # Errors
/// Why they can't be had, in words that name the codec.
pub(super) fn decompress(codec: i16, body: &Bytes, cap: usize) -> Result<Bytes, String> {
    let out = match codec {
        0 => return Ok(body.clone()),
        1 => read_all(flate2::bufread::GzDecoder::new(&body[..]), cap),
        2 => snappy(body, cap),
        3 => match lz4::Decoder::new(&body[..]) {
            Ok(decoder) => read_all(decoder, cap),
            Err(error) => Err(error.to_string()),
        },
        4 => zstd_of(body, cap),
        other => return Err(format!("compression {other} is not known")),
    };
    let name = ["", "gzip", "snappy", "lz4", "zstd"].get(codec as usize).unwrap_or(&"");
    out.map(Bytes::from).map_err(|reason| format!("{name}: {reason}"))
}

fn read_all(reader: impl Read, cap: usize) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut out).map_err(|error| error.to_string())?;
    if out.len() > cap { Err(too_large(cap)) } else { Ok(out) }
}

fn zstd_of(body: &[u8], cap: usize) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(failed)?;
    // A frame says how much memory it needs; more than may come out is refused.
    decoder.window_log_max(cap.max(1 << 20).ilog2().min(27)).map_err(failed)?;
    read_all(decoder, cap)
}

fn snappy(body: &[u8], cap: usize) -> Result<Vec<u8>, String> {
    let Some(mut rest) = body.strip_prefix(XERIAL).and_then(|rest| rest.get(8..)) else {
        let mut out = Vec::new();
        return snappy_block(body, cap, &mut out).map(|()| out);
    };
    let mut out = Vec::new();
    while !rest.is_empty() {
        let block = rest.split_first_chunk::<4>().and_then(|(length, rest)| {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
            rest.split_at_checked(length)
        });
        let Some((block, behind)) = block else { return Err("a block is cut".to_owned()) };
        snappy_block(block, cap, &mut out)?;
        rest = behind;
    }
    Ok(out)
}

fn snappy_block(block: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let failed = |error: snap::Error| error.to_string();
    let length = snap::raw::decompress_len(block).map_err(failed)?;
    if length > cap.saturating_sub(out.len()) {
        return Err(too_large(cap));
    }
    if length / SNAPPY_MOST > block.len() {
        return Err("it claims more than it can hold".to_owned());
    }
    let at = out.len();
    out.resize(at + length, 0);
    let room = out.get_mut(at..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, room).map_err(failed)?;
    out.truncate(at + written);
    Ok(())
}

fn too_large(cap: usize) -> String {
    format!("more than {cap} bytes come out of it")
}
