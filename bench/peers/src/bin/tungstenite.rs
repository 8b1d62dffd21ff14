//! Echo server on tokio-tungstenite, one thread. Answers are flushed when no further message is
//! at hand, which is its fastest form. Usage: tungstenite PORT

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use anyhow::Result;
use futures_util::{Sink, SinkExt, Stream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async_with_config, WebSocketStream};

const MAX: usize = 16 << 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let port: u16 = std::env::args().nth(1).unwrap_or_default().parse()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A peer's end is no news.
            let _ = serve(stream).await;
        });
    }
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let mut ws = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = next(&mut ws).await? {
        match message {
            Message::Text(_) | Message::Binary(_) => ws.feed(message).await?,
            _ => ws.flush().await?,
        }
    }
    Ok(())
}

/// The next message; flushes while there is none.
async fn next(ws: &mut WebSocketStream<TcpStream>) -> Result<Option<Message>> {
    let message = poll_fn(|cx| {
        let polled = Pin::new(&mut *ws).poll_next(cx);
        if polled.is_pending() {
            if let Poll::Ready(Err(err)) = Pin::new(&mut *ws).poll_flush(cx) {
                return Poll::Ready(Some(Err(err)));
            }
        }
        polled
    });
    Ok(message.await.transpose()?)
}
