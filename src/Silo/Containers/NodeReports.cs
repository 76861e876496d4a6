using GpuTasks.Dispatch;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;
using Microsoft.Extensions.Options;

namespace GpuTasks.Containers;

/// <summary>All that the agent says to the rest of the platform. Every call may fail and is then repeated by the agent.</summary>
internal interface INodeReports
{
    /// <summary>Tells a function's dispatcher how an instance is; may be lost.</summary>
    Task InstanceChangedAsync(string account, string function, InstanceStatus status);

    /// <summary>Reports an attempt's end; durable once it returns.</summary>
    Task RunEndedAsync(RunReport report);

    /// <summary>Tells a task which attempt runs here, after the store was set back.</summary>
    /// <returns>True if that is the task's attempt now.</returns>
    Task<bool> TakeUpAsync(TaskKey task, int attempt, SlotAssignment slot);

    /// <summary>Tells a function's dispatcher that a run's slot is free; may be lost.</summary>
    Task SlotFreeAsync(string account, string function, string instanceId, string runId);

    /// <summary>States what the node has and hears what it should have.</summary>
    Task<NodeDirective> ReportAsync(NodeReport report);

    /// <summary>Gives a lease back; durable once it returns.</summary>
    Task ReleaseAsync(string instanceId);
}

/// <summary>The agent's words as grain calls.</summary>
internal sealed class GrainNodeReports(IGrainFactory grains, IOptions<NodeOptions> options) : INodeReports
{
    private IRegionQuotaGrain Region => grains.Get<IRegionQuotaGrain>(options.Value.Region);

    public Task InstanceChangedAsync(string account, string function, InstanceStatus status) =>
        grains.Get<IDispatcherGrain>($"{account}/{function}").InstanceChanged(status);

    public Task RunEndedAsync(RunReport report) => report.Task is { } task
        ? grains.Get<ITaskGrain>(task.ToString()).Report(report)
        : Task.CompletedTask;

    public Task<bool> TakeUpAsync(TaskKey task, int attempt, SlotAssignment slot) =>
        grains.Get<ITaskGrain>(task.ToString()).TakeUp(attempt, slot);

    public Task SlotFreeAsync(string account, string function, string instanceId, string runId) =>
        grains.Get<IDispatcherGrain>($"{account}/{function}").Release(instanceId, runId);

    public Task<NodeDirective> ReportAsync(NodeReport report) => Region.Report(report);

    public Task ReleaseAsync(string instanceId) => Region.Release(options.Value.Name, instanceId);
}
