using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Tasks;

namespace GpuTasks.Dispatch;

/// <summary>A slot that was given to somebody and is not known to be free again.</summary>
/// <param name="Slot">The slot.</param>
/// <param name="Owner">Task id, or request id of a synchronous call.</param>
/// <param name="IsTask">False for a synchronous call.</param>
/// <param name="At">When it was given.</param>
public sealed record Assignment(SlotAssignment Slot, string Owner, bool IsTask, DateTimeOffset At)
{
    /// <summary>True once the owner said that it took the slot.</summary>
    public bool Accepted { get; init; }
}

/// <summary>A run that holds a slot.</summary>
/// <param name="Owner">Task id, or request id of a synchronous call.</param>
/// <param name="IsTask">False for a synchronous call.</param>
/// <param name="Node">Where.</param>
/// <param name="InstanceId">Where.</param>
public sealed record PooledRun(string Owner, bool IsTask, string Node, string InstanceId);

/// <summary>One instance as the dispatcher knows it.</summary>
public sealed class PooledInstance
{
    /// <summary>Its lease.</summary>
    public required Lease Lease { get; init; }

    /// <summary>What its node said last, or null while it has said nothing.</summary>
    public InstanceStatus? Status { get; set; }

    /// <summary>When its node last said anything of it, be it nothing new.</summary>
    public DateTimeOffset HeardAt { get; set; }

    /// <summary>When the dispatcher learnt of it.</summary>
    public required DateTimeOffset KnownSince { get; init; }

    /// <summary>True once the node accepted its launch, or reported it.</summary>
    public bool Launched { get; set; }

    /// <summary>True once it was asked to leave.</summary>
    public bool StopAsked { get; set; }

    /// <summary>True once it was asked to leave with its runs.</summary>
    public bool ForceAsked { get; set; }

    /// <summary>True once it was ready: a later end is no failed launch.</summary>
    public bool WasReady { get; set; }

    /// <summary>Since when it has had nothing to do, or null while it has.</summary>
    public DateTimeOffset? IdleSince { get; set; }

    /// <summary>Slots given out, by owner.</summary>
    public Dictionary<string, Assignment> Assignments { get; } = [];

    /// <summary>Owners of the runs that the node reported last, without those that have ended since.</summary>
    public HashSet<string> Reported { get; private set; } = [];

    /// <summary>Slots in use: given out here or reported by the node.</summary>
    public int InUse => Assignments.Count + reportedAlone;

    /// <summary>Runs that the node reported last, without those that have ended since.</summary>
    public IReadOnlyList<string> RunsReported => [.. (Status?.Runs ?? []).Where(run => Reported.Contains(TaskViews.OwnerOf(run)))];

    // Kept up to date instead of counted, since it is asked for each instance with each slot that is given out.
    private int reportedAlone;

    /// <summary>Takes in the node's word.</summary>
    public void Observe(InstanceStatus status)
    {
        Status = status;
        Launched = true;
        WasReady |= status.WasReady || status.State is InstanceState.Ready or InstanceState.Retiring;
        Reported = [.. status.Runs.Select(TaskViews.OwnerOf)];
        reportedAlone = Reported.Count(owner => !Assignments.ContainsKey(owner));
    }

    /// <summary>Gives a slot out, or changes what is known of it.</summary>
    public void Assign(Assignment assignment)
    {
        if (Assignments.TryAdd(assignment.Owner, assignment))
        {
            reportedAlone -= Reported.Contains(assignment.Owner) ? 1 : 0;
        }
        else
        {
            Assignments[assignment.Owner] = assignment;
        }
    }

    /// <summary>Takes a slot back.</summary>
    /// <param name="owner">Who had it.</param>
    /// <param name="ended">True if the owner's run is known to be over, whatever the node reported.</param>
    public void Free(string owner, bool ended)
    {
        var isAssigned = Assignments.Remove(owner);
        var isReported = Reported.Contains(owner);
        reportedAlone += (isAssigned && isReported ? 1 : 0) - (isReported && ended ? 1 : 0);
        if (ended)
        {
            Reported.Remove(owner);
        }
    }

    /// <summary>Since when each slot in use is taken; a run that only its node knows counts from this moment.</summary>
    public IReadOnlyList<DateTimeOffset> TakenSince(DateTimeOffset now) =>
        [.. Assignments.Values.Select(assignment => assignment.At).Concat(Enumerable.Repeat(now, InUse - Assignments.Count))];

    /// <summary>Free slots if it may take runs of this revision. One whose node is silent takes none: they would wait there for its return.</summary>
    public int FreeSlots(int revision, int concurrency, DateTimeOffset now) =>
        !StopAsked && Status is { State: InstanceState.Ready } && Status.Revision == revision && !IsSilent(now) ? Math.Max(0, concurrency - InUse) : 0;

    /// <summary>True when its node should have spoken of it by now.</summary>
    public bool IsSilent(DateTimeOffset now) => now - (HeardAt > KnownSince ? HeardAt : KnownSince) >= InstancePool.Silence;

    /// <summary>True while it is on its way to being ready.</summary>
    public bool IsComing => !StopAsked && (Status is null or { State: InstanceState.Creating or InstanceState.Starting });
}

/// <summary>
/// The instances of one function and who holds which slot. Built from the region's leases and the nodes' reports, so it can be
/// lost and built again. No clock, no I/O.
/// </summary>
public sealed class InstancePool
{
    /// <summary>After so long without a word of an instance it gets nothing new; its node speaks of it every 5 s.</summary>
    public static readonly TimeSpan Silence = TimeSpan.FromSeconds(15);

    private readonly Dictionary<string, PooledInstance> instances = [];

    /// <summary>All instances with a lease.</summary>
    public IReadOnlyCollection<PooledInstance> Instances => instances.Values;

    /// <summary>An instance with a lease, or null.</summary>
    public PooledInstance? Find(string instanceId) => instances.GetValueOrDefault(instanceId);

    /// <summary>Brings the pool in line with the leases the function holds: unknown ones are added, ended ones dropped.</summary>
    /// <returns>Assignments of dropped instances: their owners must be asked again.</returns>
    public IReadOnlyList<Assignment> Reconcile(IReadOnlyList<Lease> leases, DateTimeOffset now)
    {
        var current = leases.Select(lease => lease.InstanceId).ToHashSet();
        var orphans = new List<Assignment>();
        foreach (var gone in instances.Keys.Where(id => !current.Contains(id)).ToArray())
        {
            instances.Remove(gone, out var instance);
            orphans.AddRange(instance!.Assignments.Values);
        }

        foreach (var lease in leases)
        {
            instances.TryAdd(lease.InstanceId, new PooledInstance { Lease = lease, KnownSince = now });
        }

        return orphans;
    }

    /// <summary>Takes in a node's word on one instance.</summary>
    /// <returns>The instance, or null if it has no lease here or the word is older than what is known.</returns>
    public PooledInstance? Observe(InstanceStatus status, DateTimeOffset now)
    {
        if (!instances.TryGetValue(status.InstanceId, out var instance))
        {
            return null;
        }

        instance.HeardAt = now;
        if (instance.Status?.Version >= status.Version)
        {
            return null;
        }

        instance.Observe(status);
        UpdateIdle(instance, now);
        return instance;
    }

    /// <summary>Slots in use on all instances.</summary>
    public int InUse => instances.Values.Sum(instance => instance.InUse);

    /// <summary>Instances that take runs of this revision, or will once they are ready.</summary>
    public int Living(int revision) => instances.Values.Count(instance => IsLiving(instance, revision));

    /// <summary>
    /// Gives a slot out: on the fullest instance that has one, so that the others can become idle and leave, or on the
    /// emptiest if asked to spread.
    /// </summary>
    /// <returns>The assignment, or null if no slot is free.</returns>
    public Assignment? TryAssign(string owner, bool isTask, int revision, int concurrency, TimeSpan runLimit, string slotId, DateTimeOffset now, bool spread = false, TimeSpan nodeLostTimeout = default)
    {
        PooledInstance? best = null;
        foreach (var instance in instances.Values)
        {
            if (instance.FreeSlots(revision, concurrency, now) > 0 && !instance.Assignments.ContainsKey(owner) && (best is null || (spread ? instance.InUse < best.InUse : instance.InUse > best.InUse)))
            {
                best = instance;
            }
        }

        if (best is null)
        {
            return null;
        }

        var slot = new SlotAssignment
        {
            SlotId = slotId,
            Node = best.Lease.Node,
            InstanceId = best.Lease.InstanceId,
            RunLimit = runLimit,
            Revision = revision,
            NodeLostTimeout = nodeLostTimeout,
        };
        var assignment = new Assignment(slot, owner, isTask, now);
        best.Assign(assignment);
        best.IdleSince = null;
        return assignment;
    }

    /// <summary>The owner took the slot.</summary>
    public void Accept(Assignment assignment)
    {
        if (Holder(assignment) is { } instance)
        {
            instance.Assign(assignment with { Accepted = true });
        }
    }

    /// <summary>The slot is free again.</summary>
    public void Release(Assignment assignment, DateTimeOffset now)
    {
        if (Holder(assignment) is { } instance)
        {
            instance.Free(assignment.Owner, ended: false);
            UpdateIdle(instance, now);
        }
    }

    /// <summary>An owner's run on an instance is over.</summary>
    /// <returns>How long it had its slot, or null if it was not given here.</returns>
    public TimeSpan? Release(string instanceId, string owner, DateTimeOffset now)
    {
        if (!instances.TryGetValue(instanceId, out var instance))
        {
            return null;
        }

        instance.Assignments.TryGetValue(owner, out var held);
        instance.Free(owner, ended: true);
        UpdateIdle(instance, now);
        return now - held?.At;
    }

    /// <summary>True if the owner holds a slot somewhere.</summary>
    public bool Holds(string owner) => instances.Values.Any(instance => instance.Assignments.ContainsKey(owner));

    /// <summary>Where a node says that the owner's run is, and which run; null if none says so.</summary>
    public (PooledInstance Instance, string RunId)? RunOf(string owner)
    {
        foreach (var instance in instances.Values)
        {
            if (instance.Reported.Contains(owner))
            {
                return (instance, instance.Status!.Runs.First(run => TaskViews.OwnerOf(run) == owner));
            }
        }

        return null;
    }

    /// <summary>Assignments whose owner has not confirmed them, or whose run the node does not show, for longer than <paramref name="patience"/>.</summary>
    public IEnumerable<Assignment> Doubtful(DateTimeOffset now, TimeSpan patience) =>
        from instance in instances.Values
        from assignment in instance.Assignments.Values
        where now - assignment.At >= patience
            && !instance.Reported.Contains(assignment.Owner)
        select assignment;

    /// <summary>True while an instance is on its way to being ready.</summary>
    public bool IsComing(string instanceId) => instances.TryGetValue(instanceId, out var instance) && instance.IsComing;

    /// <summary>Everything that holds a slot: given out here or reported by a node.</summary>
    public IEnumerable<PooledRun> RunsNow() =>
        from instance in instances.Values
        from run in instance.Assignments.Values.Select(assignment => (assignment.Owner, assignment.IsTask))
            .Concat(instance.RunsReported.Select(run => (Owner: TaskViews.OwnerOf(run), IsTask: TaskViews.IsAttempt(run))))
            .DistinctBy(run => run.Owner)
        select new PooledRun(run.Owner, run.IsTask, instance.Lease.Node, instance.Lease.InstanceId);

    /// <summary>Slots that are free now or will be once instances on their way are ready. What a silent node has is not waited for.</summary>
    public int ComingSlots(int revision, int concurrency, DateTimeOffset now) =>
        instances.Values.Sum(instance => instance.IsComing ? instance.IsSilent(now) ? 0 : concurrency : instance.FreeSlots(revision, concurrency, now));

    /// <summary>Idle instances whose time is over, those idle longest first, and those of an older definition.</summary>
    /// <param name="revision">Present revision.</param>
    /// <param name="idleTimeout">How long an instance without work stays.</param>
    /// <param name="now">The moment.</param>
    /// <param name="keep">So many of the present revision stay, idle or not.</param>
    public IEnumerable<PooledInstance> ToStop(int revision, TimeSpan idleTimeout, DateTimeOffset now, int keep = 0)
    {
        var old = instances.Values.Where(instance => !instance.StopAsked && instance.Status is { } status && status.Revision != revision);
        var idle = instances.Values
            .Where(instance => !instance.StopAsked && instance.Status is { State: InstanceState.Ready } status && status.Revision == revision
                && instance.IdleSince is { } since && now - since >= idleTimeout)
            .OrderBy(instance => instance.IdleSince);
        return old.Concat(keep == 0 ? idle : idle.Take(Math.Max(0, Living(revision) - keep)));
    }

    private static bool IsLiving(PooledInstance instance, int revision) => !instance.StopAsked
        && (instance.Status is not { } status || (status.Revision == revision && status.State is InstanceState.Creating or InstanceState.Starting or InstanceState.Ready));

    private PooledInstance? Holder(Assignment assignment) =>
        instances.TryGetValue(assignment.Slot.InstanceId, out var instance)
            && instance.Assignments.TryGetValue(assignment.Owner, out var held) && held.Slot.SlotId == assignment.Slot.SlotId
            ? instance
            : null;

    private static void UpdateIdle(PooledInstance instance, DateTimeOffset now) =>
        instance.IdleSince = instance.Status is { State: InstanceState.Ready } && instance.InUse == 0 ? instance.IdleSince ?? now : null;
}
