//! Bodies that mean harm: too large, too deep, compressed to burst, dripping, or no document at all.
//!
//! They are streamed where they are large, so that the simulator itself needs no memory for them.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{Error, Response, response::Builder};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress};
use futures::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

const MEGABYTE: usize = 1 << 20;
const HUGE_MEGABYTES: usize = 256;
const DEEP_LEVELS: usize = 100_000;
const DRIP_EVERY: Duration = Duration::from_secs(1);
const HALF_PAUSE: Duration = Duration::from_millis(50);

/// What an answer that means harm holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostileBody {
    /// JSON of 100,000 levels.
    Deep,
    /// A byte a second, without end.
    Drip,
    /// Nothing.
    Empty,
    /// Bytes that are no text.
    Garbage,
    /// Half a document, then the connection closes.
    Half,
    /// 256 MB.
    Huge,
    /// 256 KB of gzip that unpack to 256 MB.
    ZipBomb,
}

impl HostileBody {
    /// Completes an answer that has its status already.
    pub(crate) fn answer(self, response: Builder) -> Result<Response<Body>, Error> {
        let response = response.header(CONTENT_TYPE, "application/vnd.api+json");
        match self {
            Self::Deep => response.body(Body::from("[".repeat(DEEP_LEVELS))),
            Self::Drip => response.body(drip()),
            Self::Empty => response.body(Body::empty()),
            Self::Garbage => response.body(Body::from((0..=255).rev().collect::<Vec<u8>>())),
            Self::Half => response.body(half()),
            Self::Huge => response.body(megabytes(Bytes::from(vec![b' '; MEGABYTE]))),
            Self::ZipBomb => {
                let response = response.header(CONTENT_ENCODING, "gzip");
                response.body(bomb())
            }
        }
    }
}

fn megabytes(each: Bytes) -> Body {
    let all = stream::iter((0..HUGE_MEGABYTES).map(move |_| Ok::<_, Infallible>(each.clone())));
    Body::from_stream(all)
}

fn drip() -> Body {
    let drops = stream::unfold((), |()| async {
        tokio::time::sleep(DRIP_EVERY).await;
        Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
    });
    Body::from_stream(drops)
}

fn half() -> Body {
    let first = stream::iter([Ok(Bytes::from_static(br#"{"data":{"type":"#))]);
    let broken = stream::once(async {
        // The first half must be on its way before.
        tokio::time::sleep(HALF_PAUSE).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(first.chain(broken))
}

/// One block that unpacks to a megabyte, again and again; the checksum is found wrong only after all of it.
fn bomb() -> Body {
    const GZIP_HEAD: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    const GZIP_END: &[u8] = &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut block = Vec::with_capacity(64 << 10);
    Compress::new(Compression::best(), false)
        .compress_vec(&vec![0; MEGABYTE], &mut block, FlushCompress::Full)
        .ok();
    let block = Bytes::from(block);
    let blocks = (0..HUGE_MEGABYTES).map(move |_| block.clone());
    let all = std::iter::once(Bytes::from_static(GZIP_HEAD))
        .chain(blocks)
        .chain([Bytes::from_static(GZIP_END)]);
    Body::from_stream(stream::iter(all).map(Ok::<_, Infallible>))
}
