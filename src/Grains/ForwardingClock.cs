namespace GpuTasks;

/// <summary>A clock that is another one in all that it does not override.</summary>
/// <param name="inner">The other one.</param>
public abstract class ForwardingClock(TimeProvider inner) : TimeProvider
{
    /// <inheritdoc />
    public override TimeZoneInfo LocalTimeZone => Inner.LocalTimeZone;

    /// <inheritdoc />
    public override long TimestampFrequency => Inner.TimestampFrequency;

    /// <summary>The other one.</summary>
    protected TimeProvider Inner { get; } = inner;

    /// <inheritdoc />
    public override DateTimeOffset GetUtcNow() => Inner.GetUtcNow();

    /// <inheritdoc />
    public override long GetTimestamp() => Inner.GetTimestamp();

    /// <inheritdoc />
    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period) =>
        Inner.CreateTimer(callback, state, dueTime, period);
}
