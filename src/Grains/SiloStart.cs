namespace GpuTasks;

/// <summary>When this silo began. Made when it is put together.</summary>
/// <param name="time">Monotonic clock.</param>
public sealed class SiloStart(TimeProvider time)
{
    private readonly long at = time.GetTimestamp();

    /// <summary>For how long it has been there.</summary>
    public TimeSpan Age => time.GetElapsedTime(at);
}
