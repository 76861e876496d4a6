namespace GpuTasks.Relay;

/// <summary>
/// A body on its way through the relay: the part of it that was written and is not known to have arrived, at most
/// <see cref="Capacity"/> bytes, found by position. Who reads from a position says with it that all before has arrived, so
/// both sides can repeat what they did not hear the answer of; who writes waits for room.
/// </summary>
internal sealed class StreamWindow
{
    /// <summary>Most bytes held: they count as the function's memory.</summary>
    internal const int Capacity = 256 * 1024;

    private const int FirstSize = 8 * 1024;

    private readonly Lock gate = new();
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private byte[] buffer = [];
    private long start;
    private int count;
    private bool complete;
    private bool closed;
    private int waiting;
    private long readAtMs = Environment.TickCount64;

    /// <summary>True once nothing that is written is read any more.</summary>
    internal bool Closed
    {
        get
        {
            lock (gate)
            {
                return closed;
            }
        }
    }

    /// <summary>How long nobody has read or waited to read.</summary>
    internal long UnreadMs
    {
        get
        {
            lock (gate)
            {
                return waiting > 0 ? 0 : Environment.TickCount64 - readAtMs;
            }
        }
    }

    /// <summary>Writes all, waiting for room.</summary>
    internal async Task WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (!bytes.IsEmpty)
        {
            Task change;
            lock (gate)
            {
                var fits = Keep(bytes.Span);
                bytes = bytes[fits..];
                change = changed.Task;
            }

            if (!bytes.IsEmpty)
            {
                await change.WaitAsync(cancellationToken);
            }
        }
    }

    /// <summary>Writes what fits of a part that may have been written before, and waits for room if nothing does.</summary>
    /// <param name="from">Position of its first byte.</param>
    /// <param name="bytes">The part.</param>
    /// <param name="last">Whether the body ends with it.</param>
    /// <param name="wait">Longest wait.</param>
    /// <returns>Position up to which the body is known; below <paramref name="from"/> if something is missing between.</returns>
    internal async Task<long> OfferAsync(long from, ReadOnlyMemory<byte> bytes, bool last, TimeSpan wait)
    {
        using var patience = new CancellationTokenSource(wait);
        while (true)
        {
            Task change;
            lock (gate)
            {
                var end = start + count;
                var known = end - from;
                if (known < 0 || closed)
                {
                    return end;
                }

                var rest = known >= bytes.Length ? default : bytes[(int)known..];
                var kept = Keep(rest.Span);
                if (kept == rest.Length)
                {
                    complete |= last;
                    Change();
                }

                if (kept > 0 || rest.IsEmpty || patience.IsCancellationRequested)
                {
                    return start + count;
                }

                change = changed.Task;
            }

            await change.WaitAsync(patience.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Forgets what is before a position and reads what follows it, once there is something.</summary>
    /// <param name="from">Position.</param>
    /// <param name="max">Most bytes.</param>
    /// <param name="wait">Longest wait.</param>
    /// <param name="cancellationToken">Ends the wait with an exception.</param>
    /// <returns>The bytes, none if none came in time or none follow, and whether the body ends with them; null if the position was never reached or is forgotten.</returns>
    internal async Task<(byte[] Bytes, bool Last)?> ReadAsync(long from, int max, TimeSpan wait, CancellationToken cancellationToken)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        patience.CancelAfter(wait);
        lock (gate)
        {
            waiting++;
        }

        try
        {
            while (true)
            {
                Task change;
                lock (gate)
                {
                    if (from < start || from > start + count)
                    {
                        return null;
                    }

                    Forget((int)(from - start));
                    if (count > 0 || complete || closed || patience.IsCancellationRequested)
                    {
                        cancellationToken.ThrowIfCancellationRequested();
                        var size = Math.Min(count, max);
                        return (buffer.AsSpan(0, size).ToArray(), complete && size == count);
                    }

                    change = changed.Task;
                }

                await change.WaitAsync(patience.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
        finally
        {
            lock (gate)
            {
                waiting--;
                readAtMs = Environment.TickCount64;
            }
        }
    }

    /// <summary>What is held now, and the position of its first byte.</summary>
    internal (long Start, byte[] Bytes) Rest()
    {
        lock (gate)
        {
            return (start, buffer.AsSpan(0, count).ToArray());
        }
    }

    /// <summary>Ends it in whichever state it is: nobody waits for it any more.</summary>
    internal void Close()
    {
        lock (gate)
        {
            closed = true;
            Change();
        }
    }

    private int Keep(ReadOnlySpan<byte> bytes)
    {
        var fits = closed ? bytes.Length : Math.Min(bytes.Length, Capacity - count);
        if (fits > 0 && !closed)
        {
            if (count + fits > buffer.Length)
            {
                Array.Resize(ref buffer, Math.Min(Capacity, Math.Max(count + fits, Math.Max(FirstSize, buffer.Length * 2))));
            }

            bytes[..fits].CopyTo(buffer.AsSpan(count));
            count += fits;
            Change();
        }

        return fits;
    }

    private void Forget(int bytes)
    {
        if (bytes > 0)
        {
            buffer.AsSpan(bytes, count - bytes).CopyTo(buffer);
            start += bytes;
            count -= bytes;
            Change();
        }
    }

    private void Change()
    {
        changed.TrySetResult();
        changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
