using GpuTasks.Functions;
using GpuTasks.Nodes;
using Orleans.Concurrency;

namespace GpuTasks.Dispatch;

/// <summary>A dispatcher's state for operators and for "why is it waiting".</summary>
[GenerateSerializer, Immutable, Alias("GpuTasks.DispatcherStatus")]
public sealed record DispatcherStatus
{
    /// <summary>Tickets in memory; more may wait in the store.</summary>
    [Id(0)] public int WindowLength { get; init; }

    /// <summary>Instances it knows, as last reported.</summary>
    [Id(1)] public IReadOnlyList<InstanceStatus> Instances { get; init; } = [];

    /// <summary>Why no further instance was granted, or null.</summary>
    [Id(2)] public string? WaitReason { get; init; }

    /// <summary>Latest launch failure, or null.</summary>
    [Id(3)] public LaunchFailure? LastFailure { get; init; }
}

/// <summary>
/// The queue and instance slots of one definition of a function. Key: <see cref="DefinitionKey"/>. It owns no durable fact: it rebuilds
/// its queue from the task index and its instances from the region's leases and the nodes' reports.
/// </summary>
[Alias("GpuTasks.IDispatcherGrain")]
public interface IDispatcherGrain : IGrainWithStringKey
{
    /// <summary>A task waits. A lost offer is found again in the task index within seconds.</summary>
    [Alias("Offer"), OneWay]
    Task Offer(Ticket ticket, CancellationToken cancellationToken = default);

    /// <summary>Many tasks wait. What is lost of it is found again in the task index within seconds.</summary>
    [Alias("OfferMany"), OneWay]
    Task OfferMany(IReadOnlyList<Ticket> tickets, CancellationToken cancellationToken = default);

    /// <summary>A task no longer waits.</summary>
    [Alias("Withdraw"), OneWay]
    Task Withdraw(string taskId, CancellationToken cancellationToken = default);

    /// <summary>The run that held this slot has ended, or never began.</summary>
    [Alias("Release"), OneWay]
    Task Release(string instanceId, string runId, CancellationToken cancellationToken = default);

    /// <summary>A node tells how one instance is: at each change and every few seconds.</summary>
    [Alias("InstanceChanged"), OneWay]
    Task InstanceChanged(InstanceStatus status, CancellationToken cancellationToken = default);

    /// <summary>Leases of this function changed: ask the region again.</summary>
    [Alias("LeasesChanged"), OneWay]
    Task LeasesChanged(CancellationToken cancellationToken = default);

    /// <summary>The function changed or is gone: read it again.</summary>
    [Alias("FunctionChanged"), OneWay]
    Task FunctionChanged(CancellationToken cancellationToken = default);

    /// <summary>A synchronous call asks for a slot. Idempotent by <paramref name="requestId"/>.</summary>
    /// <param name="requestId">Id of the call.</param>
    /// <param name="wait">How long to wait inside this call: at most 10 s; ask again for longer.</param>
    /// <param name="cancellationToken">Gives the place in the queue up.</param>
    /// <returns>A slot, or why there will be none, or neither if none came free in time.</returns>
    [Alias("Acquire"), AlwaysInterleave]
    Task<SlotAnswer> Acquire(string requestId, TimeSpan wait, CancellationToken cancellationToken = default);

    /// <summary>A synchronous caller went away before it got its slot.</summary>
    [Alias("Abandon"), OneWay]
    Task Abandon(string requestId, CancellationToken cancellationToken = default);

    /// <summary>Why a waiting task of this function does not run yet, its place, and when it may begin.</summary>
    /// <param name="ticket">Its place in the queue; it need not be in this grain's memory.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    [Alias("Explain")]
    Task<WaitView> Explain(Ticket ticket, CancellationToken cancellationToken = default);

    /// <summary>How many instances are to be there whether or not anything waits, and how many are.</summary>
    [Alias("GetCapacity")]
    Task<CapacityView> GetCapacity(CancellationToken cancellationToken = default);

    /// <summary>As <see cref="GetCapacity"/>, of the configs of one qualifier that stands for this definition.</summary>
    [Alias("GetCapacityOf")]
    Task<CapacityView> GetCapacityOf(string qualifier, CancellationToken cancellationToken = default);

    /// <summary>How the queue and its instances stand.</summary>
    [Alias("GetStatus"), ReadOnly]
    Task<DispatcherStatus> GetStatus(CancellationToken cancellationToken = default);
}
