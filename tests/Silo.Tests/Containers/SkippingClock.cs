namespace GpuTasks.Tests.Containers;

/// <summary>The machine's clock, in which time can be skipped, as a process finds it that was frozen meanwhile.</summary>
internal sealed class SkippingClock() : ForwardingClock(System)
{
    private long skipped;

    /// <inheritdoc />
    public override long GetTimestamp() => Inner.GetTimestamp() + Interlocked.Read(ref skipped);

    public void Skip(TimeSpan time) => Interlocked.Add(ref skipped, (long)(time.TotalSeconds * TimestampFrequency));
}
