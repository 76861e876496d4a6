using GpuTasks.Quota;

namespace GpuTasks.Dispatch;

/// <summary>Why a task waits.</summary>
public sealed partial class DispatcherGrain
{
    private readonly RecentTimes runTimes = new();
    private readonly RecentTimes startTimes = new();

    /// <summary>The region's latest answer, or null while it has not been asked.</summary>
    private DemandAnswer? answered;

    /// <inheritdoc />
    public async Task<WaitView> Explain(Ticket ticket, CancellationToken cancellationToken = default)
    {
        var ahead = await index.CountAheadAsync(Account, Key.Line, ticket, cancellationToken);
        if (answered is null && function is not null)
        {
            await ReconcileAsync();
        }

        var now = clock.GetUtcNow();
        var (reason, detail, missing) = ReasonFor(ticket, ahead, now);
        var (start, basis) = EstimateFor(ticket, ahead, now);
        return new WaitView
        {
            Reason = reason,
            Detail = detail,
            Missing = missing,
            Rank = ahead + 1,
            FunctionRank = answered?.RankInAccount ?? 0,
            EstimatedStart = start,
            EstimateBasis = basis,
        };
    }

    private (TaskWaitReason Reason, string Detail, CapacityShort Missing) ReasonFor(Ticket ticket, long ahead, DateTimeOffset now)
    {
        if (function is not { } current)
        {
            return Plain(TaskWaitReason.FunctionDeleted, "The function does not exist.");
        }

        if (pool.Holds(ticket.TaskId))
        {
            return Plain(TaskWaitReason.SlotGiven, "A slot was given to it; its run is being handed over.");
        }

        if (current.Restriction is { Disabled: true } restriction)
        {
            return Plain(TaskWaitReason.FunctionDisabled, $"Calls of the function are disabled: {restriction.Reason}");
        }

        if (AtRunLimit(current))
        {
            return Plain(TaskWaitReason.ConcurrencyLimit, $"The function runs {pool.InUse} at once and its concurrency config permits {current.Capacity.ReservedConcurrency}.");
        }

        var coming = pool.Instances.Where(instance => instance.IsComing).ToList();
        if (ahead + Callers() < (long)coming.Count * current.Spec.InstanceConcurrency)
        {
            return coming.Find(instance => instance.Status is { PullingImage: true }) is { } pulling
                ? Plain(TaskWaitReason.ImagePulling, $"Node '{pulling.Lease.Node}' fetches image '{current.Spec.Container.Image}' for instance {pulling.Lease.InstanceId}.")
                : Plain(TaskWaitReason.InstanceStarting, $"{coming.Count} instance(s) are starting.");
        }

        if (now < launchesAllowedAt)
        {
            return Plain(TaskWaitReason.LaunchBackoff, $"{failuresInARow} launch(es) failed in a row, the last one so: {lastFailure?.Message} The next follows at {launchesAllowedAt:u}.");
        }

        return answered is { Reason: not WaitReason.None } answer
            ? (CodeOf(answer.Reason), answer.Detail, answer.Missing)
            : OnDemandIsOff(current)
            ? Plain(TaskWaitReason.OnDemandOff, $"The scaling config switches on-demand instances off, and the {pool.Instances.Count} instance(s) there are have no free slot.")
            : Plain(TaskWaitReason.NoFreeSlot, pool.Instances.Count > 0
                ? $"The function's {pool.Instances.Count} instance(s) have no free slot."
                : "An instance is being asked for.");

        static (TaskWaitReason, string, CapacityShort) Plain(TaskWaitReason reason, string detail) => (reason, detail, CapacityShort.Nothing);
    }

    private (DateTimeOffset? Start, string Basis) EstimateFor(Ticket ticket, long ahead, DateTimeOffset now)
    {
        if (pool.Holds(ticket.TaskId))
        {
            return (now, "It has its slot.");
        }

        if (function is not { } current || pool.Instances.All(instance => instance.StopAsked))
        {
            return (null, "No instance of the function is there, so it is not known when one will be.");
        }

        if (runTimes.Count == 0)
        {
            return (null, "No run of the function has been measured since its queue was read last.");
        }

        var freeAt = new List<DateTimeOffset>();
        foreach (var instance in pool.Instances.Where(instance => !instance.StopAsked))
        {
            if (instance.IsComing && startTimes.Count == 0)
            {
                continue; // It may take seconds, or an hour for its image.
            }

            var from = instance.IsComing ? instance.KnownSince + startTimes.Mean : now;
            var taken = instance.TakenSince(now);
            for (var slot = 0; slot < current.Spec.InstanceConcurrency; slot++)
            {
                freeAt.Add(slot < taken.Count ? taken[slot] + runTimes.Mean : from);
            }
        }

        return StartEstimate.Of(freeAt, runTimes.Mean, ahead + Callers(), now) is { } start
            ? (start, $"Mean of the last {runTimes.Count} runs: {runTimes.Mean.TotalSeconds:0.###} s; {freeAt.Count} slot(s).")
            : (null, "Instances are starting for the first time, so it is not known how long that takes.");
    }

    /// <summary>Synchronous callers that go first.</summary>
    private int Callers() => waiters.Values.Count(waiter => !waiter.Answer.Task.IsCompleted);

    private static TaskWaitReason CodeOf(WaitReason reason) => reason switch
    {
        WaitReason.Quota => TaskWaitReason.Quota,
        WaitReason.NoCardOfType => TaskWaitReason.NoCardOfType,
        WaitReason.NoFreeCard => TaskWaitReason.NoFreeCard,
        WaitReason.Fragmented => TaskWaitReason.Fragmentation,
        WaitReason.NoRoomOnNode => TaskWaitReason.NoRoomOnNode,
        WaitReason.NoNode => TaskWaitReason.NoNode,
        WaitReason.Behind => TaskWaitReason.Behind,
        WaitReason.KeptForOther => TaskWaitReason.KeptForOlder,
        WaitReason.Drained => TaskWaitReason.NodeDrained,
        WaitReason.CardsUnfit => TaskWaitReason.CardsUnfit,
        WaitReason.NodesUnheard => TaskWaitReason.NodesUnheard,
        _ => TaskWaitReason.Unknown,
    };
}
