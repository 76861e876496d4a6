namespace GpuTasks.Containers;

/// <summary>
/// Its timestamps count only time in which this process ran: after it was frozen (SIGSTOP, a machine that was paused) what others
/// said meanwhile is still unread, and nobody is given up for a silence in which nobody listened. It looks at the clock twice a
/// second, and of a longer gap counts no more than <see cref="MostAtOnce"/>. The wall clock and timers are the inner clock's.
/// </summary>
internal sealed class AwakeClock : ForwardingClock, IDisposable
{
    /// <summary>More than a busy machine keeps a timer waiting, and little beside any patience of the agent.</summary>
    public static readonly TimeSpan MostAtOnce = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan Look = TimeSpan.FromSeconds(0.5);
    private readonly Lock gate = new();
    private readonly long most;
    private readonly ITimer looking;
    private long at;
    private long awake;

    /// <param name="inner">Wall clock and monotonic clock of the machine.</param>
    public AwakeClock(TimeProvider inner)
        : base(inner)
    {
        most = (long)(MostAtOnce.TotalSeconds * inner.TimestampFrequency);
        at = awake = inner.GetTimestamp();
        looking = inner.CreateTimer(clock => ((AwakeClock)clock!).GetTimestamp(), this, Look, Look);
    }

    /// <inheritdoc />
    public override long GetTimestamp()
    {
        lock (gate)
        {
            var now = Inner.GetTimestamp();
            awake += Math.Min(now - at, most);
            at = now;
            return awake;
        }
    }

    /// <inheritdoc />
    public void Dispose() => looking.Dispose();
}
