using System.Runtime.InteropServices;

namespace GpuTasks.Relay;

/// <summary>Moves what the function prints from its pipe into segments, on a thread of its own.</summary>
internal sealed class LogPump
{
    /// <summary>More than a pipe holds by default; a function that prints without end must not hold up who drains.</summary>
    private const int DrainBytes = 1024 * 1024;

    private readonly Lock gate = new();
    private readonly LogSegments segments;
    private readonly byte[] buffer = new byte[64 * 1024];
    private readonly TaskCompletionSource finished = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int pipe = -1;

    internal LogPump(LogSegments segments) => this.segments = segments;

    /// <summary>Completes when nobody holds the writing end any more and all was taken in.</summary>
    internal Task Finished => finished.Task;

    /// <summary>Offsets of the first byte kept and behind the last one.</summary>
    internal (long Start, long End) Range
    {
        get
        {
            lock (gate)
            {
                return (segments.Start, segments.End);
            }
        }
    }

    internal void Start(int readEnd)
    {
        pipe = readEnd;
        new Thread(Pump, maxStackSize: 256 * 1024) { IsBackground = true, Name = "output" }.Start();
    }

    /// <summary>Takes in what was printed up to now and tells the offset behind it.</summary>
    internal long Drain()
    {
        lock (gate)
        {
            for (var taken = 0; taken < DrainBytes;)
            {
                var count = TakeOnce();
                if (count <= 0)
                {
                    break;
                }

                taken += count;
            }

            return segments.End;
        }
    }

    private unsafe void Pump()
    {
        while (true)
        {
            var entry = new Native.PollEntry { Descriptor = pipe, Events = Native.PollIn };
            _ = Native.Poll(&entry, 1, -1);
            lock (gate)
            {
                if (TakeOnce() == 0)
                {
                    _ = Native.Close(pipe);
                    pipe = -1;
                    segments.Dispose();
                    finished.TrySetResult();
                    return;
                }
            }
        }
    }

    /// <summary>Bytes taken, 0 at the end, below 0 when there is nothing just now.</summary>
    private unsafe int TakeOnce()
    {
        if (pipe < 0)
        {
            return 0;
        }

        fixed (byte* start = buffer)
        {
            var count = Native.Read(pipe, start, (nuint)buffer.Length);
            if (count < 0)
            {
                return Marshal.GetLastPInvokeError() is Native.TryAgain or Native.Interrupted ? -1 : 0;
            }

            segments.Append(buffer.AsSpan(0, (int)count));
            return (int)count;
        }
    }
}
