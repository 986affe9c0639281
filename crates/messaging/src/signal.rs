use messaging_core::{Error, ErrorKind, Result, Worker, WorkerReport};

/// Waits until the process is asked to stop: SIGINT or SIGTERM, where there are signals.
///
/// From its first call on, the signals no longer end the process by themselves.
///
/// # Errors
/// [`ErrorKind::Other`] where the system gives no handler.
pub async fn stop_signal() -> Result<()> {
    wait().await.map_err(|error| {
        Error::new(ErrorKind::Other, "signals can't be waited for").with_source(error)
    })
}

/// Runs a worker until the process is asked to stop or the subscription can't go on, then stops it
/// within its grace time.
///
/// # Errors
/// As [`Worker::stop`] and [`stop_signal`].
pub async fn run_until_signal(worker: Worker) -> Result<WorkerReport> {
    let asked = tokio::select! {
        asked = stop_signal() => asked,
        () = worker.ended() => Ok(()),
    };
    let report = worker.stop().await?;
    asked.map(|()| report)
}

#[cfg(unix)]
async fn wait() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(not(unix))]
async fn wait() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
