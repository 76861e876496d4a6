namespace GpuTasks.Tests.Containers;

/// <summary>The machine's clock, of which parts can be skipped, as a process finds it that was frozen meanwhile.</summary>
internal sealed class FrozenClock : TimeProvider
{
    private long skipped;

    /// <inheritdoc />
    public override long TimestampFrequency => System.TimestampFrequency;

    /// <inheritdoc />
    public override long GetTimestamp() => System.GetTimestamp() + Interlocked.Read(ref skipped);

    public void Skip(TimeSpan time) => Interlocked.Add(ref skipped, (long)(time.TotalSeconds * TimestampFrequency));
}
