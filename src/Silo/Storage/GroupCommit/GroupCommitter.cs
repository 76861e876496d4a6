using System.Threading.Channels;
using GpuTasks.Store;
using Orleans.Storage;

namespace GpuTasks.Storage;

/// <summary>
/// Takes the writes that wait, commits them together, and answers each alone; while one flush runs, the next collects.
/// It does so on a thread of its own, so that neither a database without asynchronous calls nor a starved thread pool
/// holds up grains or commits.
/// </summary>
internal sealed partial class GroupCommitter : IDisposable
{
    private const int MaxBatchBytes = 8 << 20;

    private readonly IRowSink sink;
    private readonly int maxRows;
    private readonly TimeSpan patience;
    private readonly ILogger logger;
    private readonly Channel<RowWrite> queue;
    private readonly Thread thread;

    // Set when the queue may have something. The channel's own signal would come through the thread pool.
    private readonly ManualResetEventSlim wake = new(false);

    // Writes to a row that is already in the batch being collected; they come first in the next one.
    private List<RowWrite> held = [];

    public GroupCommitter(IRowSink sink, StoreOptions options, ILogger<GroupCommitter> logger)
    {
        this.sink = sink;
        this.logger = logger;
        maxRows = options.GroupCommitRows;
        patience = options.WritePatience;
        queue = Channel.CreateBounded<RowWrite>(new BoundedChannelOptions(options.GroupCommitQueue) { SingleReader = true });
        thread = new Thread(Run) { IsBackground = true, Name = "store-writer" };
        thread.Start();
    }

    /// <summary>Queues a write and waits until it is committed or has failed.</summary>
    /// <returns>The row's new version, or null if it had another version than expected.</returns>
    /// <exception cref="StoreUnavailableException">Nothing was written.</exception>
    /// <exception cref="InconsistentStateException">It may have been written or not.</exception>
    public ValueTask<Task<int?>> EnqueueAsync(RowWrite row, CancellationToken cancellationToken)
    {
        if (!queue.Writer.TryWrite(row))
        {
            return new(EnqueueSlowlyAsync(row, cancellationToken));
        }

        wake.Set();
        return new(row.Done);
    }

    /// <summary>Queues the rows of a group, which tells when they are committed or have failed.</summary>
    public async Task EnqueueAsync(IReadOnlyList<RowWrite> rows)
    {
        CancellationTokenSource? limit = null;
        for (var i = 0; i < rows.Count; i++)
        {
            if (queue.Writer.TryWrite(rows[i]))
            {
                continue;
            }

            // One patience for all of them.
            limit ??= new CancellationTokenSource(patience);
            wake.Set();
            try
            {
                await WaitForPlaceAsync(rows[i], limit.Token);
            }
            catch (StoreUnavailableException e)
            {
                foreach (var row in rows.Skip(i))
                {
                    row.Fail(new StoreUnavailableException(e.Message));
                }

                break;
            }
        }

        limit?.Dispose();
        wake.Set();
    }

    /// <summary>Takes no more writes and returns when all that were taken are answered.</summary>
    public void Dispose()
    {
        if (queue.Writer.TryComplete())
        {
            wake.Set();
        }

        thread.Join();
        wake.Dispose();
    }

    private async Task<Task<int?>> EnqueueSlowlyAsync(RowWrite row, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(patience);
        try
        {
            await WaitForPlaceAsync(row, limit.Token);
            return row.Done;
        }
        catch (StoreUnavailableException) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancellationToken);
        }
    }

    private async Task WaitForPlaceAsync(RowWrite row, CancellationToken limit)
    {
        try
        {
            await queue.Writer.WriteAsync(row, limit);
            wake.Set();
        }
        catch (OperationCanceledException)
        {
            throw new StoreUnavailableException($"The store has been too slow for {patience.TotalSeconds:0.#} s; nothing was written. Try again later.");
        }
        catch (ChannelClosedException)
        {
            throw new StoreUnavailableException("The store of this silo has stopped; nothing was written. Try again on another silo.");
        }
    }

    private void Run()
    {
        try
        {
            while (Collect() is { Count: > 0 } batch)
            {
                Flush(batch);
            }
        }
        finally
        {
            sink.Dispose();
        }
    }

    /// <returns>At least one row, or none when all is done for good.</returns>
    private List<RowWrite> Collect()
    {
        var batch = new List<RowWrite>();
        var keys = new HashSet<(string, string)>();
        var bytes = 0L;
        var waiting = held;
        held = [];
        foreach (var row in waiting)
        {
            Take(row);
        }

        // Waiting for company costs a lone writer more than it wins under load, so whatever is there goes.
        Drain();
        while (batch.Count == 0 && !queue.Reader.Completion.IsCompleted)
        {
            wake.Wait();
            wake.Reset();
            Drain();
        }

        return batch;

        void Drain()
        {
            while (batch.Count + held.Count < maxRows && bytes < MaxBatchBytes && queue.Reader.TryRead(out var row))
            {
                Take(row);
            }
        }

        void Take(RowWrite row)
        {
            if (!keys.Add((row.Kind, row.Key)))
            {
                held.Add(row);
                return;
            }

            batch.Add(row);
            bytes += row.Bytes;
        }
    }

    private void Flush(List<RowWrite> batch)
    {
        try
        {
            var versions = sink.Write(batch);
            for (var i = 0; i < batch.Count; i++)
            {
                batch[i].Finish(versions[i]);
            }
        }
        catch (RowSinkException e) when (e.Fault == WriteFault.Row)
        {
            LogRetryingAlone(logger, e, batch.Count);
            FlushAlone(batch);
        }
        catch (Exception e)
        {
            LogFlushFailed(logger, e, batch.Count);
            Fail(batch, e);
        }
    }

    /// <summary>So that one bad row fails one grain.</summary>
    private void FlushAlone(List<RowWrite> batch)
    {
        for (var i = 0; i < batch.Count; i++)
        {
            var row = batch[i];
            try
            {
                row.Finish(sink.Write(row));
            }
            catch (RowSinkException e) when (e.Fault == WriteFault.Row)
            {
                LogRowFailed(logger, e, row.Kind, row.Key);
                row.Fail(Failure(e));
            }
            catch (Exception e)
            {
                LogFlushFailed(logger, e, batch.Count - i);
                row.Fail(Failure(e));

                // The rest has not been tried, so of those it is known.
                Fail(batch[(i + 1)..], new RowSinkException(WriteFault.Database, e));
                return;
            }
        }
    }

    private static void Fail(List<RowWrite> rows, Exception e)
    {
        foreach (var row in rows)
        {
            row.Fail(Failure(e));
        }
    }

    /// <summary>The exception for one grain; a new one for each, since each is thrown on its own.</summary>
    private static Exception Failure(Exception e) => e is RowSinkException { Fault: not WriteFault.Unknown }
        ? new StoreUnavailableException($"The store refused the write, and nothing of it was written: {e.Message}")
        : new InconsistentStateException($"The write failed and may or may not be in the store; read the state again. {e.Message}", e);

    [LoggerMessage(Level = LogLevel.Warning, Message = "A flush of {Rows} rows was refused; trying each row alone.")]
    private static partial void LogRetryingAlone(ILogger logger, Exception e, int rows);

    [LoggerMessage(Level = LogLevel.Error, Message = "The row {Kind} {Key} was refused.")]
    private static partial void LogRowFailed(ILogger logger, Exception e, string kind, string key);

    [LoggerMessage(Level = LogLevel.Error, Message = "A flush of {Rows} rows failed.")]
    private static partial void LogFlushFailed(ILogger logger, Exception e, int rows);
}
