namespace GpuTasks;

/// <summary>
/// The clock by which grains decide: the wall clock of the process's start, carried on by the monotonic clock, which nobody
/// can set. A step of the wall clock, in whichever direction, thus neither ends a run nor lets a queue wait out an hour; it is
/// caught up with so slowly that no pause or limit is wrong by more than a fiftieth. Timers and timestamps are the inner clock's.
/// </summary>
/// <param name="inner">Wall clock and monotonic clock of the machine.</param>
public sealed class SteadyClock(TimeProvider inner) : ForwardingClock(inner)
{
    /// <summary>How fast a difference to the wall clock is caught up with, as a part of the time that passes.</summary>
    public const double CatchUp = 0.02;

    private readonly Lock gate = new();
    private long at = inner.GetTimestamp();
    private DateTimeOffset now = inner.GetUtcNow();

    /// <inheritdoc />
    public override DateTimeOffset GetUtcNow()
    {
        lock (gate)
        {
            var timestamp = Inner.GetTimestamp();
            var passed = Inner.GetElapsedTime(at, timestamp);
            var steady = now + passed;
            var most = passed * CatchUp;
            var difference = Inner.GetUtcNow() - steady;
            at = timestamp;
            // Less than what has passed, so that this clock never goes back.
            return now = steady + (difference > most ? most : difference < -most ? -most : difference);
        }
    }
}
