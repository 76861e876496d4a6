using GpuTasks.Tasks;

namespace GpuTasks.Containers;

internal sealed partial class Instance
{
    [LoggerMessage(2, LogLevel.Information, "Instance {Instance} of {Account}/{Function} started from image {Image}.")]
    private static partial void LogStarted(ILogger logger, string instance, string account, string function, string image);

    [LoggerMessage(3, LogLevel.Information, "Instance {Instance} is ready {Milliseconds:0} ms after its order.")]
    private static partial void LogReady(ILogger logger, string instance, double milliseconds);

    [LoggerMessage(4, LogLevel.Warning, "Instance {Instance} failed with {Outcome}: {Message}")]
    private static partial void LogFailed(ILogger logger, string instance, RunOutcome outcome, string message);

    [LoggerMessage(5, LogLevel.Information, "Instance {Instance} is to stop (forced: {Forced}): {Reason}")]
    private static partial void LogStopAsked(ILogger logger, string instance, bool forced, string reason);

    [LoggerMessage(6, LogLevel.Warning, "Instance {Instance} did not end by itself and is killed.")]
    private static partial void LogKill(ILogger logger, string instance);

    [LoggerMessage(7, LogLevel.Information, "Instance {Instance} is gone and its place is clean. {Failure}")]
    private static partial void LogGone(ILogger logger, string instance, string failure);

    [LoggerMessage(8, LogLevel.Information, "Instance {Instance} run {Run} ended with {Outcome} after {Milliseconds:0} ms. {Message}")]
    private static partial void LogRunEnded(ILogger logger, string instance, string run, RunOutcome outcome, double milliseconds, string message);

    [LoggerMessage(9, LogLevel.Warning, "Instance {Instance}: the end of run {Run} could not be told yet; it is tried again.")]
    private static partial void LogReportFailed(ILogger logger, Exception e, string instance, string run);

    [LoggerMessage(10, LogLevel.Warning, "Instance {Instance}: step {Step} failed and is tried again.")]
    private static partial void LogStepFailed(ILogger logger, Exception e, string instance, string step);

    [LoggerMessage(11, LogLevel.Warning, "Instance {Instance} waits for the engine: {Message}")]
    private static partial void LogEngineAway(ILogger logger, string instance, string message);

    [LoggerMessage(12, LogLevel.Warning, "Instance {Instance} runs {Run}, which nobody waits for; it is ended.")]
    private static partial void LogGhost(ILogger logger, string instance, string run);

    [LoggerMessage(13, LogLevel.Warning, "Instance {Instance}: run {Run} should have ended by now; the instance is killed.")]
    private static partial void LogOverdue(ILogger logger, string instance, string run);

    [LoggerMessage(14, LogLevel.Warning, "Instance {Instance}: why it failed could not be written down.")]
    private static partial void LogMemoLost(ILogger logger, Exception e, string instance);

    [LoggerMessage(15, LogLevel.Warning, "Instance {Instance} run {Run} ended with {Outcome} and is kept on this node: {Why}")]
    private static partial void LogUnclaimed(ILogger logger, string instance, string run, RunOutcome outcome, string why);

    [LoggerMessage(16, LogLevel.Warning, "Instance {Instance} run {Run} goes on after the store was set back; its task has taken it up: {Taken}.")]
    private static partial void LogTakenUp(ILogger logger, string instance, string run, bool taken);
}
