namespace GpuTasks.Simulation;

/// <summary>A wall clock that can be set without any time passing, on a machine whose time is in the test's hand.</summary>
/// <param name="machine">Timers and timestamps, and the wall clock before it is set.</param>
public sealed class SteppedClock(TimeProvider machine) : ForwardingClock(machine)
{
    /// <summary>How far the wall clock was set off.</summary>
    public TimeSpan Step { get; set; }

    /// <inheritdoc />
    public override DateTimeOffset GetUtcNow() => Inner.GetUtcNow() + Step;
}
