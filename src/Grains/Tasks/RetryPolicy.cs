namespace GpuTasks.Tasks;

/// <summary>Whether and when a failed attempt is followed by another.</summary>
public static class RetryPolicy
{
    /// <summary>Attempts that the platform may lose by its own faults before it gives a task up.</summary>
    public const int PlatformFaultBudget = 50;

    private static readonly TimeSpan LongestPause = TimeSpan.FromMinutes(5);

    /// <summary>True for what the function did; false for faults of the platform, which cost no attempt of the caller's.</summary>
    public static bool Counts(RunOutcome outcome) => outcome is
        RunOutcome.FunctionError or RunOutcome.TimedOut or RunOutcome.Crashed or RunOutcome.HostOutOfMemory or
        RunOutcome.GpuOutOfMemory or RunOutcome.ImageError or RunOutcome.InitializerError;

    /// <summary>Pause before the next attempt, or null when there is none: 1 s doubling for counted failures, 0.5 s doubling for others.</summary>
    /// <param name="state">The task with this failure already counted.</param>
    /// <param name="outcome">How the attempt ended.</param>
    public static TimeSpan? DelayBeforeNext(TaskState state, RunOutcome outcome)
    {
        if (!Counts(outcome))
        {
            return state.PlatformFaults <= PlatformFaultBudget ? Doubling(TimeSpan.FromSeconds(0.5), state.PlatformFaults) : null;
        }

        return state.CountedFailures <= state.Submission!.MaxRetryAttempts ? Doubling(TimeSpan.FromSeconds(1), state.CountedFailures) : null;
    }

    private static TimeSpan Doubling(TimeSpan first, int nth) =>
        TimeSpan.FromTicks(Math.Min(LongestPause.Ticks, first.Ticks << Math.Min(nth - 1, 16)));
}
