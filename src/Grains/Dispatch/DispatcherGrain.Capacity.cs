using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;

namespace GpuTasks.Dispatch;

/// <summary>Instances that are there whether or not anything waits, and the most that runs at once.</summary>
public sealed partial class DispatcherGrain
{
    /// <summary>Use counts for so long, so that instances do not leave in each short pause.</summary>
    private static readonly TimeSpan UseMemory = TimeSpan.FromMinutes(2);

    private readonly Queue<(DateTimeOffset At, int Slots)> uses = new();

    /// <inheritdoc />
    public Task<CapacityView> GetCapacity(CancellationToken cancellationToken = default) => GetCapacityOf(Key.Version ?? "LATEST", cancellationToken);

    /// <inheritdoc />
    public async Task<CapacityView> GetCapacityOf(string qualifier, CancellationToken cancellationToken = default)
    {
        if (answered is null && function is not null)
        {
            await ReconcileAsync();
        }

        if (function is not { } current)
        {
            return new CapacityView();
        }

        var now = clock.GetUtcNow();
        var (provision, scaling) = (current.Capacity.Provision.GetValueOrDefault(qualifier), current.Capacity.Scaling.GetValueOrDefault(qualifier));
        var view = new CapacityView
        {
            ProvisionTarget = provision is null ? 0 : TargetOf(provision.Plan, current, now),
            ScalingTarget = scaling is null ? 0 : TargetOf(scaling.Plan, current, now),
            Ready = pool.Instances.Count(instance => !instance.StopAsked && instance.Status is { State: InstanceState.Ready } status && status.Revision == current.SpecRevision),
        };
        return view with
        {
            Error = view.Ready >= Math.Max(view.ProvisionTarget, view.ScalingTarget) ? ""
                : lastFailure is { } failure ? failure.Message
                : answered is { Reason: not WaitReason.None } answer ? answer.Detail : "",
        };
    }

    private static IEnumerable<ScalingConfig> ScalingsOf(FunctionSnapshot current) =>
        current.Capacity.Scaling.Where(config => current.IsKeptBy(config.Key)).Select(config => config.Value);

    /// <summary>Every plan that counts here; the one that wants most decides.</summary>
    private static IEnumerable<InstancePlan> PlansOf(FunctionSnapshot current) =>
        current.Capacity.Provision.Where(config => current.IsKeptBy(config.Key)).Select(config => config.Value.Plan)
            .Concat(ScalingsOf(current).Select(config => config.Plan));

    private static bool OnDemandIsOff(FunctionSnapshot current) => ScalingsOf(current).Any(config => !config.OnDemand);

    /// <summary>Instances that are to be there now.</summary>
    private int WarmNow(FunctionSnapshot current, DateTimeOffset now)
    {
        return current.Capacity.IsSet ? Math.Min(PlansOf(current).Select(plan => TargetOf(plan, current, now)).DefaultIfEmpty().Max(), MostInstances(current)) : 0;
    }

    /// <summary>Instances that can be of use under the limit of runs at once.</summary>
    private static int MostInstances(FunctionSnapshot current) => current.Capacity.ReservedConcurrency is { } most
        ? (most + current.Spec.InstanceConcurrency - 1) / current.Spec.InstanceConcurrency
        : int.MaxValue;

    private int TargetOf(InstancePlan plan, FunctionSnapshot current, DateTimeOffset now) =>
        CapacityPlan.TargetAt(plan, now, uses.Count == 0 ? pool.InUse : Math.Max(pool.InUse, uses.Max(use => use.Slots)), current.Spec.InstanceConcurrency);

    private bool AtRunLimit(FunctionSnapshot current) => current.Capacity.ReservedConcurrency is { } most && pool.InUse >= most;

    /// <summary>Instances to ask for: for what waits, unless that is switched off, and for what is to be there; never more than can be of use.</summary>
    private int MoreInstances(FunctionSnapshot current, int waiting, DateTimeOffset now)
    {
        var concurrency = current.Spec.InstanceConcurrency;
        var living = pool.Living(current.SpecRevision);
        if (current.Capacity.ReservedConcurrency is { } most)
        {
            waiting = Math.Min(waiting, Math.Max(0, most - pool.InUse));
        }

        var missing = OnDemandIsOff(current) ? 0 : waiting - pool.ComingSlots(current.SpecRevision, concurrency, now);
        var wanted = Math.Max((Math.Max(0, missing) + concurrency - 1) / concurrency, WarmNow(current, now) - living);
        return Math.Max(0, Math.Min(wanted, MostInstances(current) - living));
    }

    /// <summary>Remembers how much was in use, for policies that follow it.</summary>
    private void NoteUse(DateTimeOffset now)
    {
        while (uses.TryPeek(out var oldest) && now - oldest.At > UseMemory)
        {
            uses.Dequeue();
        }

        if (function is { } current && PlansOf(current).Any(plan => plan.Policies.Count > 0))
        {
            uses.Enqueue((now, pool.InUse));
        }
    }
}
