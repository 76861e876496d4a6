using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Orleans.Concurrency;

namespace GpuTasks.Dispatch;

/// <summary>
/// The shell around <see cref="TicketWindow"/> and <see cref="InstancePool"/>. Everything it tells others may be repeated and
/// everything it hears may be lost or late: a tick every few seconds states again what it wants and looks again at what there is.
/// Reentrant: it awaits the store, the region, nodes and tasks while messages go on to arrive; between awaits each step leaves
/// window and pool whole, and steps that must not overlap say so by a flag.
/// </summary>
[GrainType("dispatcher")]
[Reentrant]
public sealed partial class DispatcherGrain(
    ITaskIndex index,
    IOptions<DispatcherOptions> options,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    ILogger<DispatcherGrain> logger) : Grain, IDispatcherGrain
{
    private static readonly TimeSpan TickPeriod = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan ReconcilePeriod = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan UnknownInstanceGrace = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <summary>Between two statements of demand, so that a stream of offers is told together. The first is told at once.</summary>
    private static readonly TimeSpan DemandPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestBackoff = TimeSpan.FromSeconds(60);

    private readonly TicketWindow window = new(options.Value.WindowCapacity);
    private readonly InstancePool pool = new();
    private readonly Dictionary<string, SyncWaiter> waiters = [];
    private readonly HashSet<string> handledFailures = [];

    private FunctionSnapshot? function;
    private DateTimeOffset activatedAt;
    private DateTimeOffset nextReconcile;
    private DateTimeOffset launchesAllowedAt;
    private int failuresInARow;
    private string? avoidNode;
    private LaunchFailure? lastFailure;
    private string? waitReason;
    private bool stating;
    private bool stateAgain;
    private bool refilling;
    private bool clearing;
    private bool cleared;

    private DefinitionKey Key { get; set; }

    private string Account => Key.Account;

    private string Function => Key.Function;

    /// <inheritdoc />
    public override async Task OnActivateAsync(CancellationToken cancellationToken)
    {
        activatedAt = clock.GetUtcNow();
        Key = DefinitionKey.Parse(this.GetPrimaryKeyString());
        await ReadFunctionAsync();
        this.RegisterGrainTimer(TickAsync, new GrainTimerCreationOptions(TimeSpan.Zero, TickPeriod) { Interleave = true });
    }

    /// <inheritdoc />
    public Task Offer(Ticket ticket, CancellationToken cancellationToken = default)
    {
        window.Offer(ticket);
        return DispatchOrWantMoreAsync();
    }

    /// <inheritdoc />
    public Task OfferMany(IReadOnlyList<Ticket> tickets, CancellationToken cancellationToken = default)
    {
        foreach (var ticket in tickets)
        {
            window.Offer(ticket);
        }

        return DispatchOrWantMoreAsync();
    }

    /// <inheritdoc />
    public Task Withdraw(string taskId, CancellationToken cancellationToken = default)
    {
        window.Withdraw(taskId);
        return Task.CompletedTask;
    }

    /// <inheritdoc />
    public Task Release(string instanceId, string runId, CancellationToken cancellationToken = default)
    {
        if (pool.Release(instanceId, TaskViews.OwnerOf(runId), clock.GetUtcNow()) is { } time)
        {
            runTimes.Add(time);
        }

        Dispatch();
        return Task.CompletedTask;
    }

    /// <inheritdoc />
    public async Task InstanceChanged(InstanceStatus status, CancellationToken cancellationToken = default)
    {
        var now = clock.GetUtcNow();
        var wasComing = pool.IsComing(status.InstanceId);
        if (pool.Observe(status, now) is { } instance)
        {
            if (wasComing && status.State is InstanceState.Ready && instance.Lease.GrantedAt >= activatedAt)
            {
                startTimes.Add(now - instance.KnownSince);
            }

            if (status.State is InstanceState.Ready && failuresInARow > 0)
            {
                failuresInARow = 0;
                avoidNode = null;
                lastFailure = null;
            }

            if (status is { State: InstanceState.Ready, ResolvedImage: { } image } && function is { ResolvedImage: null } current && status.Revision == current.SpecRevision)
            {
                // One that is lost is told again with the next word of any instance.
                function = current with { ResolvedImage = image };
                GrainFactory.Get<IFunctionGrain>($"{Account}/{Function}").SetResolvedImage(current.Version, current.SpecRevision, image, CancellationToken.None).Ignore();
            }

            if (status.Failure is { } failure && !instance.WasReady && handledFailures.Add(status.InstanceId))
            {
                await OnLaunchFailedAsync(instance, failure, now);
            }
        }
        else if (pool.Instances.All(known => known.Lease.InstanceId != status.InstanceId))
        {
            // A lease this activation has not heard of yet: the region knows.
            await StateDemandAsync();
        }

        Dispatch();
    }

    /// <inheritdoc />
    public Task LeasesChanged(CancellationToken cancellationToken = default) => StateDemandAsync();

    /// <inheritdoc />
    public async Task FunctionChanged(CancellationToken cancellationToken = default)
    {
        await ReadFunctionAsync();
        // A changed definition deserves a fresh try.
        failuresInARow = 0;
        launchesAllowedAt = default;
        await ReconcileAsync();
    }

    /// <inheritdoc />
    public async Task<SlotAnswer> Acquire(string requestId, TimeSpan wait, CancellationToken cancellationToken = default)
    {
        if (!waiters.TryGetValue(requestId, out var waiter))
        {
            waiters[requestId] = waiter = new SyncWaiter(requestId, clock.GetUtcNow());
            Dispatch();
            StateDemandAsync().Ignore();
        }

        waiter.AskedAt = clock.GetUtcNow();
        try
        {
            var limited = wait < TimeSpan.FromSeconds(10) ? wait : TimeSpan.FromSeconds(10);
            var answer = await waiter.Answer.Task.WaitAsync(limited, cancellationToken);
            waiters.Remove(requestId);
            return answer;
        }
        catch (TimeoutException)
        {
            waiter.AskedAt = clock.GetUtcNow();
            return new SlotAnswer(null, null);
        }
    }

    /// <inheritdoc />
    public Task Abandon(string requestId, CancellationToken cancellationToken = default)
    {
        waiters.Remove(requestId);
        return Task.CompletedTask;
    }

    /// <inheritdoc />
    public Task<DispatcherStatus> GetStatus(CancellationToken cancellationToken = default) => Task.FromResult(new DispatcherStatus
    {
        WindowLength = window.Count,
        Instances = [.. pool.Instances.Select(instance => instance.Status is { } status ? status with { Runs = instance.RunsReported } : new InstanceStatus
        {
            InstanceId = instance.Lease.InstanceId,
            Node = instance.Lease.Node,
            State = InstanceState.Creating,
            CreatedAt = instance.KnownSince,
        })],
        WaitReason = waitReason,
        LastFailure = lastFailure,
    });

    private async Task TickAsync(CancellationToken cancellationToken)
    {
        var now = clock.GetUtcNow();
        foreach (var gone in waiters.Values.Where(waiter => now - waiter.AskedAt > TimeSpan.FromSeconds(30)).ToArray())
        {
            waiters.Remove(gone.RequestId);
        }

        NoteUse(now);
        if (now >= nextReconcile || window.WantsRefill)
        {
            await ReconcileAsync();
        }

        Dispatch();
        if (window.Count > 0 || pool.Instances.Count > 0 || waiters.Count > 0 || function is { Capacity.IsSet: true } current && (Key.Version is null || PlansOf(current).Any()))
        {
            DelayDeactivation(TimeSpan.FromMinutes(2));
        }
    }

    /// <summary>Looks at everything again: queue, leases, doubtful slots, instances that should start or leave.</summary>
    private async Task ReconcileAsync()
    {
        nextReconcile = clock.GetUtcNow() + ReconcilePeriod;
        try
        {
            // Again each time: that it changed was told only once.
            await ReadFunctionAsync();
            if (function is null)
            {
                await ClearQueueOfDeletedDefinitionAsync();
            }
            else
            {
                await RefillAsync();
            }

            Dispatch();
            await AbortRunsAsync();
            await StateDemandAsync();
            await ResolveDoubtfulAsync();
        }
        catch (Exception exception)
        {
            LogReconcileFailed(exception, this.GetPrimaryKeyString());
        }
    }

    private async Task ReadFunctionAsync()
    {
        var before = function?.SpecRevision;
        var grain = GrainFactory.Get<IFunctionGrain>($"{Account}/{Function}");
        function = Key.Version is { } version ? await grain.GetQualified(version, "") : await grain.Get();
        cleared &= function is null;
        if (function?.SpecRevision != before)
        {
            lastFailure = null; // It was another definition's.
        }
    }

    private async Task RefillAsync()
    {
        if (refilling)
        {
            return;
        }

        refilling = true;
        try
        {
            var limit = window.HasMore || window.Count == 0 ? options.Value.WindowCapacity : Math.Min(options.Value.WindowCapacity, window.Count + 256);
            var page = await index.WaitingAsync(Account, Key.Line, null, limit, CancellationToken.None);
            window.Refill([.. page.Where(ticket => !pool.Holds(ticket.TaskId))], page.Count > 0 ? page[^1] : null, page.Count == limit);
        }
        finally
        {
            refilling = false;
        }
    }

    /// <summary>Gives free slots to those who wait: synchronous callers first, since somebody holds a connection open for them.</summary>
    private void Dispatch()
    {
        if (function is not { } current)
        {
            return;
        }

        if (current.Restriction is { Disabled: true } restriction)
        {
            RefuseWaiters(restriction);
            return;
        }

        var now = clock.GetUtcNow();
        foreach (var waiter in waiters.Values.Where(waiter => !waiter.Answer.Task.IsCompleted).OrderBy(waiter => waiter.Since))
        {
            if (TryAssign(current, waiter.RequestId, isTask: false, now) is not { } assignment)
            {
                return;
            }

            pool.Accept(assignment);
            waiter.Answer.TrySetResult(new SlotAnswer(assignment.Slot, null) { Streams = pool.Find(assignment.Slot.InstanceId)?.Status is { Streams: true } });
        }

        while (window.First is { } first)
        {
            if (pool.RunOf(first.TaskId) is { } run)
            {
                // The store says that it waits and a node that it runs: the store may have been set back. The task knows which is right.
                window.Withdraw(first.TaskId);
                TakeUpAsync(current, first.TaskId, run.Instance, run.RunId).Ignore();
                continue;
            }

            if (TryAssign(current, first.TaskId, isTask: true, now) is not { } assignment)
            {
                break;
            }

            window.Withdraw(first.TaskId);
            StartAsync(assignment).Ignore();
        }

        if (window.WantsRefill)
        {
            RefillAsync().Ignore();
        }
    }

    /// <summary>What found no slot is told to the region; what did changes nothing for it until the next tick.</summary>
    private Task DispatchOrWantMoreAsync()
    {
        Dispatch();
        return window.Count > 0 ? StateDemandAsync() : Task.CompletedTask;
    }

    private void RefuseWaiters(InvocationRestriction restriction)
    {
        foreach (var waiter in waiters.Values)
        {
            waiter.Answer.TrySetResult(new SlotAnswer(null, new LaunchFailure(RunOutcome.Cancelled, $"Calls of the function are disabled: {restriction.Reason}")));
        }
    }

    /// <summary>Ends what runs although it should not; asked again until nothing does.</summary>
    private async Task AbortRunsAsync()
    {
        if (function?.Restriction is not { Disabled: true, Abort: true } restriction)
        {
            return;
        }

        await Task.WhenAll(pool.RunsNow().ToArray().Select(AbortAsync));

        async Task AbortAsync(PooledRun run)
        {
            try
            {
                if (run.IsTask)
                {
                    await GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, run.Owner).ToString())
                        .Stop($"Calls of the function were disabled: {restriction.Reason}");
                }
                else
                {
                    await GrainFactory.Get<INodeGrain>(run.Node).CancelRun(run.InstanceId, run.Owner);
                }
            }
            catch (Exception exception)
            {
                LogAbortFailed(exception, run.Owner, run.InstanceId);
            }
        }
    }

    private Assignment? TryAssign(FunctionSnapshot current, string owner, bool isTask, DateTimeOffset now) => AtRunLimit(current) ? null : pool.TryAssign(
        owner, isTask, current.SpecRevision, current.Spec.InstanceConcurrency, TimeSpan.FromSeconds(current.Spec.TimeoutSeconds), Guid.NewGuid().ToString("N"), now,
        spread: ScalingsOf(current).Any(config => config.Balanced),
        nodeLostTimeout: TimeSpan.FromSeconds(current.Spec.NodeLostTimeoutSeconds));

    /// <summary>Offers a slot to its task. If the answer is lost, the slot stays taken until the task is asked again.</summary>
    private async Task StartAsync(Assignment assignment)
    {
        try
        {
            var task = GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, assignment.Owner).ToString());
            var outcome = await task.Start(assignment.Slot);
            if (outcome is StartOutcome.Started)
            {
                pool.Accept(assignment);
            }
            else if (outcome is StartOutcome.NotWanted)
            {
                pool.Release(assignment, clock.GetUtcNow());
                Dispatch();
            }
        }
        catch (Exception exception)
        {
            LogStartFailed(exception, assignment.Owner, assignment.Slot.InstanceId);
        }
    }

    private async Task TakeUpAsync(FunctionSnapshot current, string taskId, PooledInstance instance, string runId)
    {
        try
        {
            await GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, taskId).ToString()).TakeUp(TaskViews.AttemptOf(runId), new SlotAssignment
            {
                SlotId = runId,
                Node = instance.Lease.Node,
                InstanceId = instance.Lease.InstanceId,
                RunLimit = TimeSpan.FromSeconds(current.Spec.TimeoutSeconds),
                Revision = instance.Status?.Revision ?? current.SpecRevision,
                NodeLostTimeout = TimeSpan.FromSeconds(current.Spec.NodeLostTimeoutSeconds),
            });
        }
        catch (Exception exception)
        {
            // The next refill brings it back.
            LogStartFailed(exception, taskId, instance.Lease.InstanceId);
        }
    }

    private async Task ResolveDoubtfulAsync()
    {
        var now = clock.GetUtcNow();
        foreach (var assignment in pool.Doubtful(now, Patience).ToArray())
        {
            if (assignment.IsTask)
            {
                await StartAsync(assignment);
            }
            else if (now - assignment.At > 3 * Patience)
            {
                // The caller never brought its run to the node, or the run is over.
                pool.Release(assignment, now);
            }
        }
    }

    /// <summary>Tells the region what is wanted, hears what there is, and brings instances in line. One at a time; a call meanwhile repeats it.</summary>
    private async Task StateDemandAsync()
    {
        if (stating)
        {
            stateAgain = true;
            return;
        }

        stating = true;
        try
        {
            do
            {
                stateAgain = false;
                var answer = await GrainFactory.Get<IRegionQuotaGrain>(options.Value.Region).State(DemandNow());
                waitReason = answer.Reason is WaitReason.None ? null : answer.Detail.Length > 0 ? answer.Detail : answer.Reason.ToString();
                if (answer.Reason is WaitReason.NodesUnheard)
                {
                    answered = answer;
                    nextReconcile = clock.GetUtcNow(); // Asked again with the next tick.
                    return;
                }

                foreach (var orphan in pool.Reconcile(answer.Leases, clock.GetUtcNow()).Where(orphan => orphan.IsTask))
                {
                    // The task itself finds out from the node what became of its run.
                    GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, orphan.Owner).ToString()).Wake().Ignore();
                }

                handledFailures.IntersectWith(answer.Leases.Select(lease => lease.InstanceId));
                answered = answer;
                await StartAndStopInstancesAsync(answer);
                if (stateAgain)
                {
                    await Task.Delay(DemandPause);
                }
            }
            while (stateAgain);
        }
        catch (Exception exception)
        {
            LogDemandFailed(exception, this.GetPrimaryKeyString());
        }
        finally
        {
            stating = false;
        }
    }

    private CapacityDemand DemandNow()
    {
        var spec = function?.Spec;
        var now = clock.GetUtcNow();
        var waiting = window.Count + waiters.Values.Count(waiter => !waiter.Answer.Task.IsCompleted);
        var more = function is null or { Restriction.Disabled: true } ? 0 : MoreInstances(function, waiting, now);
        return new CapacityDemand
        {
            Account = Account,
            Function = Key.Line,
            Shape = new InstanceShape(
                spec?.Gpu?.Type,
                spec?.Gpu?.MemoryMiB ?? 0,
                (int)Math.Ceiling((spec?.Cpu ?? 0) * 1000),
                spec?.MemoryMiB ?? 0,
                spec?.DiskMiB ?? 0),
            // After a failed launch one instance at a time is tried, so that a broken image does not churn all cards.
            MoreInstances = now < launchesAllowedAt ? 0 : failuresInARow > 0 ? Math.Min(1, more) : more,
            Provisioned = function is null ? 0 : WarmNow(function, now),
            Reserved = function is { Capacity.ReservedConcurrency: not null } ? MostInstances(function) : 0,
            OldestWaitingSince = window.First?.EnqueuedAt ?? waiters.Values.Select(waiter => (DateTimeOffset?)waiter.Since).Min(),
            Priority = window.First?.Priority ?? 0,
            RunLimit = TimeSpan.FromSeconds(spec?.TimeoutSeconds ?? 0),
            AvoidNode = avoidNode,
            HeldInstances = pool.Instances.Count,
        };
    }

    private async Task StartAndStopInstancesAsync(DemandAnswer answer)
    {
        var now = clock.GetUtcNow();
        var work = new List<Task>();
        if (function is not { } current)
        {
            // Only once each task knows why: else its run would seem to be lost, and not to be stopped. A function that was made after
            // the time to which the store was set back is unknown, not deleted: its runs go to their end.
            work.AddRange(pool.Instances.Where(_ => cleared).Select(instance => StopAsync(instance, force: !instance.Lease.TakenOver)));
        }
        else
        {
            var idle = TimeSpan.FromSeconds(current.Spec.IdleTimeoutSeconds ?? options.Value.IdleTimeoutSeconds);
            // Others are entitled to what some hold: those finish their runs and take no more.
            var leaving = pool.ToStop(current.SpecRevision, idle, now, WarmNow(current, now))
                .Union(pool.Instances.Where(instance => !instance.StopAsked && answer.Yield.Contains(instance.Lease.InstanceId)))
                .Except(pool.Instances.Where(instance => answer.Evict.Contains(instance.Lease.InstanceId)));
            work.AddRange(leaving.ToArray().Select(instance => StopAsync(instance, force: false)));
            work.AddRange(pool.Instances
                .Where(instance => !instance.ForceAsked && answer.Evict.Contains(instance.Lease.InstanceId))
                .ToArray()
                .Select(instance => StopAsync(instance, force: true)));
            // A lease from before this activation may have an instance whose node reports in a moment; new ones are launched at once.
            work.AddRange(pool.Instances
                .Where(instance => !instance.Launched && (instance.Lease.GrantedAt >= activatedAt || now - activatedAt > UnknownInstanceGrace))
                .ToArray()
                .Select(instance => LaunchAsync(instance, current)));
        }

        await Task.WhenAll(work);
    }

    private async Task LaunchAsync(PooledInstance instance, FunctionSnapshot current)
    {
        try
        {
            var spec = current.ResolvedImage is { } image ? current.Spec with { Container = current.Spec.Container with { Image = image } } : current.Spec;
            var order = new LaunchOrder { Lease = instance.Lease, Spec = spec, Revision = current.SpecRevision, Version = current.Version };
            var outcome = await GrainFactory.Get<INodeGrain>(instance.Lease.Node).Launch(order);
            instance.Launched = outcome is LaunchOutcome.Accepted;
            if (outcome is LaunchOutcome.StaleLease)
            {
                await StopAsync(instance, force: true);
            }
        }
        catch (Exception exception)
        {
            LogNodeCallFailed(exception, instance.Lease.Node, instance.Lease.InstanceId);
        }
    }

    private async Task StopAsync(PooledInstance instance, bool force)
    {
        instance.StopAsked = true;
        instance.ForceAsked |= force;
        try
        {
            await GrainFactory.Get<INodeGrain>(instance.Lease.Node).StopInstance(instance.Lease.InstanceId, force);
        }
        catch (Exception exception)
        {
            instance.StopAsked = instance.ForceAsked = false;
            LogNodeCallFailed(exception, instance.Lease.Node, instance.Lease.InstanceId);
        }
    }

    private async Task OnLaunchFailedAsync(PooledInstance instance, LaunchFailure failure, DateTimeOffset now)
    {
        lastFailure = failure;
        avoidNode = RetryPolicy.Counts(failure.Outcome) ? avoidNode : instance.Lease.Node;

        // Instances that were begun together fail together: that is one failure, and only one after its pause is a further one in a row.
        if (now >= launchesAllowedAt)
        {
            failuresInARow++;
            var backoff = TimeSpan.FromSeconds(Math.Pow(2, Math.Min(failuresInARow - 1, 6)));
            launchesAllowedAt = now + (backoff < LongestBackoff ? backoff : LongestBackoff);
        }

        LogLaunchFailed(this.GetPrimaryKeyString(), instance.Lease.InstanceId, failure.Outcome, failure.Message);

        // As many as the instance would have served hear of it; a synchronous caller hears at once.
        var concurrency = function?.Spec.InstanceConcurrency ?? 1;
        foreach (var waiter in waiters.Values.Where(waiter => !waiter.Answer.Task.IsCompleted))
        {
            waiter.Answer.TrySetResult(new SlotAnswer(null, failure));
        }

        for (var i = 0; i < concurrency && window.TryTake(out var ticket); i++)
        {
            try
            {
                await GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, ticket.TaskId).ToString())
                    .LaunchFailed(instance.Lease.InstanceId, failure);
            }
            catch (Exception exception)
            {
                // It is still enqueued in the store, so the next refill brings it back.
                LogStartFailed(exception, ticket.TaskId, instance.Lease.InstanceId);
            }
        }
    }

    private async Task ClearQueueOfDeletedDefinitionAsync()
    {
        if (clearing)
        {
            return;
        }

        clearing = true;
        try
        {
            foreach (var waiter in waiters.Values)
            {
                waiter.Answer.TrySetResult(new SlotAnswer(null, new LaunchFailure(RunOutcome.Cancelled, Key.Version is null ? "The function was deleted." : $"Version '{Key.Version}' was deleted.")));
            }

            while (window.TryTake(out _))
            {
            }

            string? after = null;
            while (await index.LiveAsync(Account, Function, Key.Version, after, 500, CancellationToken.None) is { Count: > 0 } page)
            {
                await Task.WhenAll(page.Select(id => GrainFactory.Get<ITaskGrain>(new TaskKey(Account, Function, id).ToString()).FunctionDeleted()));
                after = page[^1];
            }

            cleared = true;
        }
        finally
        {
            clearing = false;
        }
    }

    private sealed class SyncWaiter(string requestId, DateTimeOffset since)
    {
        public string RequestId { get; } = requestId;

        public DateTimeOffset Since { get; } = since;

        public DateTimeOffset AskedAt { get; set; } = since;

        public TaskCompletionSource<SlotAnswer> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
