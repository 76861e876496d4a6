using Microsoft.Extensions.Logging;

namespace GpuTasks.Tasks;

public sealed partial class TaskGrain
{
    [LoggerMessage(LogLevel.Debug, "Task {TaskId} attempt {Attempt}: {From} to {To} on instance {Instance}")]
    private partial void LogApplied(TaskKey taskId, int attempt, GpuTaskStatus from, GpuTaskStatus to, string instance);

    [LoggerMessage(LogLevel.Debug, "Task {TaskId} attempt {Attempt}: {EventName} changes nothing while {Status}")]
    private partial void LogIgnored(TaskKey taskId, int attempt, string eventName, GpuTaskStatus status);

    [LoggerMessage(LogLevel.Warning, "Task {TaskId} attempt {Attempt}: {Pending} could not be done and will be tried again")]
    private partial void LogEffectFailed(Exception exception, TaskKey taskId, int attempt, TaskEffects pending);

    [LoggerMessage(LogLevel.Warning, "Task {TaskId}: telling its destination failed and will be tried again")]
    private partial void LogDeliveryFailed(Exception exception, TaskKey taskId);

    [LoggerMessage(LogLevel.Information, "Task {TaskId}: its destination was not told (for good: {Final}): {Reason}")]
    private partial void LogNotDelivered(TaskKey taskId, bool final, string reason);

    [LoggerMessage(LogLevel.Warning, "Task {TaskId}, attempt {Attempt}: given up on node {Node}; leased: {Leased}, silent for {Silence:0} s")]
    private partial void LogGivenUp(TaskKey taskId, int attempt, string node, bool leased, double silence);
}
