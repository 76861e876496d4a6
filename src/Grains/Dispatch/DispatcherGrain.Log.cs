using GpuTasks.Tasks;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Dispatch;

public sealed partial class DispatcherGrain
{
    [LoggerMessage(LogLevel.Warning, "Function {Function}: looking at queue and instances again failed and will be repeated")]
    private partial void LogReconcileFailed(Exception exception, string function);

    [LoggerMessage(LogLevel.Warning, "Function {Function}: the region could not be asked and will be asked again")]
    private partial void LogDemandFailed(Exception exception, string function);

    [LoggerMessage(LogLevel.Warning, "Task {TaskId} did not answer the slot on instance {Instance} and will be asked again")]
    private partial void LogStartFailed(Exception exception, string taskId, string instance);

    [LoggerMessage(LogLevel.Warning, "Node {Node} could not be told about instance {Instance} and will be told again")]
    private partial void LogNodeCallFailed(Exception exception, string node, string instance);

    [LoggerMessage(LogLevel.Warning, "Function {Function}: instance {Instance} failed to start ({Outcome}): {Reason}")]
    private partial void LogLaunchFailed(string function, string instance, RunOutcome outcome, string reason);

    [LoggerMessage(LogLevel.Warning, "Run of {Owner} on instance {Instance} could not be ended and will be asked again")]
    private partial void LogAbortFailed(Exception exception, string owner, string instance);
}
