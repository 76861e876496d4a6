using GpuTasks.Destinations;
using GpuTasks.Dispatch;
using GpuTasks.Functions;
using GpuTasks.Nodes;
using GpuTasks.Quota;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Orleans.Storage;

namespace GpuTasks.Tasks;

/// <summary>
/// The shell around <see cref="TaskMachine"/>: applies, saves, then acts. Effects run in the background on this grain's
/// scheduler, so that no caller waits for a node or a dispatcher; each is harmless to repeat and carries the attempt.
/// </summary>
[GrainType("task")]
public sealed partial class TaskGrain(
    [FromKeyedServices(StoreNames.Provider)] IGrainStorage storage,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    DestinationCaller destinations,
    FreshTasks fresh,
    IOptions<DispatcherOptions> region,
    IOptions<RetentionOptions> retention,
    ILogger<TaskGrain> logger) : Grain, ITaskGrain, IDisposable
{
    /// <summary>How often a running task makes sure that its node still has the run.</summary>
    private static readonly TimeSpan RunCheckPeriod = TimeSpan.FromSeconds(30);

    private static readonly TimeSpan RetryEffectAfter = TimeSpan.FromSeconds(2);

    /// <summary>How much longer than its instance a task waits before it runs elsewhere: for the instance's grace, and for what was on its way.</summary>
    private static readonly TimeSpan LostMargin = TimeSpan.FromSeconds(60);

    /// <summary>By how much the clock of the silo that purges may be ahead of this one.</summary>
    private static readonly TimeSpan ClockDifference = TimeSpan.FromMinutes(1);

    /// <summary>A message that is due so soon is waited for here instead of being left to the sweeper.</summary>
    private static readonly TimeSpan ShortPause = TimeSpan.FromSeconds(3);

    private static readonly TimeSpan ForEver = TimeSpan.FromDays(36_500);

    // Read when it is first needed instead of at activation, so that a new task is one write and no read.
    private IGrainState<TaskState> store = new GrainState<TaskState>();

    // Events come from callers and from the background effects alike; only one may be between decision and write.
    private readonly SemaphoreSlim applying = new(1, 1);
    private IGrainTimer? timer;
    private bool acting;
    private bool telling;
    private DateTimeOffset? contactLostSince;
    private DateTimeOffset nextRunCheck;

    /// <summary>Since when this activation has known of the attempt's run, by the monotonic clock.</summary>
    private (int Attempt, long At) runKnown;

    private TaskKey? key;

    private TaskKey Key => key ??= TaskKey.Parse(this.GetPrimaryKeyString());

    private TaskState State
    {
        get => store.State ??= new TaskState();
        set => store.State = value;
    }

    /// <summary>True if there may be no such row, or no longer: only the store knows.</summary>
    private bool IsUncertain => State.Status is GpuTaskStatus.None
        || (State is { EndedAt: { } endedAt, WakeAt: null } && endedAt + retention.Value.KeptFor(State.Submission!.Recorded) - ClockDifference <= clock.GetUtcNow());

    /// <inheritdoc />
    public async Task<SubmitOutcome> Submit(TaskSubmission submission, CancellationToken cancellationToken = default)
    {
        if (State.Status is not GpuTaskStatus.None)
        {
            await LoadAsync();
            if (State.Status is not GpuTaskStatus.None)
            {
                return Known(submission);
            }
        }

        try
        {
            await ApplyAsync(new Submitted(clock.GetUtcNow(), Key, submission));
            return SubmitOutcome.Accepted;
        }
        catch (InconsistentStateException)
        {
            // There is such a task already, or it is not known whether the write came through: the row tells.
            await ReadAsync();
            if (State.Status is GpuTaskStatus.None)
            {
                throw;
            }

            Act();
            return Known(submission);
        }
    }

    /// <summary>A repeat of the same request, whose answer was lost, hears what the request would have heard.</summary>
    private SubmitOutcome Known(TaskSubmission submission) =>
        State.Submission!.RequestId == submission.RequestId ? SubmitOutcome.Accepted : SubmitOutcome.AlreadyExists;

    /// <inheritdoc />
    public async Task<TaskSnapshot?> Get(bool includeData, CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        return State.Status is GpuTaskStatus.None ? null : State.ToSnapshot(includeData, contactLostSince);
    }

    /// <inheritdoc />
    public async Task<TaskResult?> GetResult(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        return State.Result is { } result ? new TaskResult(result, State.ResultTruncated) : null;
    }

    /// <inheritdoc />
    public async Task<StopOutcome> Stop(string reason, CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        if (State.Status is GpuTaskStatus.None)
        {
            return StopOutcome.NotFound;
        }

        if (State.Status.IsFinal())
        {
            return StopOutcome.AlreadyFinal;
        }

        await ApplyAsync(new StopRequested(clock.GetUtcNow(), reason));
        return StopOutcome.Accepted;
    }

    /// <inheritdoc />
    public async Task<StartOutcome> Start(SlotAssignment slot, CancellationToken cancellationToken = default)
    {
        if (State.Status is GpuTaskStatus.None && fresh.Take(this.GetPrimaryKeyString()) is { } row)
        {
            // Only a hint: if it is old, the write below fails, and the slot is offered again to an activation that reads.
            store = row;
        }
        else
        {
            await LoadAsync();
        }

        if (State.Status is GpuTaskStatus.Enqueued)
        {
            await ApplyAsync(new SlotAssigned(clock.GetUtcNow(), slot));
        }

        return State.Status.HoldsSlot() && State.Slot?.SlotId == slot.SlotId ? StartOutcome.Started : StartOutcome.NotWanted;
    }

    /// <inheritdoc />
    public async Task Report(RunReport report, CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        MustBeKnown();
        contactLostSince = null;
        await ApplyAsync(new RunEnded(clock.GetUtcNow(), report));
    }

    /// <inheritdoc />
    public async Task<bool> TakeUp(int attempt, SlotAssignment slot, CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        MustBeKnown();
        await ApplyAsync(new RunClaimed(clock.GetUtcNow(), attempt, slot));
        return State.Status.HoldsSlot() && State.Attempt == attempt && State.Slot?.InstanceId == slot.InstanceId;
    }

    /// <inheritdoc />
    public async Task LaunchFailed(string instanceId, LaunchFailure failure, CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        await ApplyAsync(new LaunchFailed(clock.GetUtcNow(), instanceId, failure));
    }

    /// <inheritdoc />
    public async Task FunctionDeleted(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        await ApplyAsync(new FunctionDeleted(clock.GetUtcNow()));
    }

    /// <inheritdoc />
    public async Task<DeadLetterView?> GetDeadLetter(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        return State.DeadLetter is null ? null : State.ToDeadLetter(DestinationMessage.Of(State, region.Value.Region));
    }

    /// <inheritdoc />
    public async Task<bool> Redeliver(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        if (State.DeadLetter is not null)
        {
            // It may have failed again by the time that this returns.
            await ApplyAsync(new RedeliveryRequested(clock.GetUtcNow()));
            return true;
        }

        return State.Outbox is not null;
    }

    /// <inheritdoc />
    public async Task<bool> DeleteDeadLetter(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        if (State.DeadLetter is null)
        {
            return false;
        }

        await ApplyAsync(new DeadLetterDeleted(clock.GetUtcNow()));
        return true;
    }

    /// <inheritdoc />
    public async Task Wake(CancellationToken cancellationToken = default)
    {
        await LoadAsync();
        await OnTimeAsync();
    }

    /// <inheritdoc />
    public void Dispose()
    {
        timer?.Dispose();
        applying.Dispose();
    }

    /// <summary>
    /// That there is no row is never remembered: a batch writes new rows beside the activations of their ids. Nor is an ended
    /// task believed to be there once its time is over: it may have been purged.
    /// </summary>
    private async Task LoadAsync()
    {
        if (!IsUncertain)
        {
            return;
        }

        await applying.WaitAsync(CancellationToken.None);
        try
        {
            if (IsUncertain)
            {
                await ReadAsync();
            }
        }
        finally
        {
            applying.Release();
        }

        if (State.Status is not GpuTaskStatus.None && (!State.Status.IsFinal() || State.Outbox is not null))
        {
            nextRunCheck = clock.GetUtcNow();
            ScheduleTimer(TimeSpan.Zero);
        }
    }

    private void MustBeKnown()
    {
        if (State.Status is GpuTaskStatus.None)
        {
            throw new UnknownTaskException(Key.ToString());
        }
    }

    private async Task ReadAsync()
    {
        var row = new GrainState<TaskState>();
        await storage.ReadStateAsync(StoreNames.Task, this.GetGrainId(), row);
        store = row;
    }

    private async Task ApplyAsync(TaskEvent e)
    {
        await applying.WaitAsync(CancellationToken.None);
        try
        {
            await SaveAsync(e);
        }
        finally
        {
            applying.Release();
        }

        Act();
    }

    private async Task SaveAsync(TaskEvent e)
    {
        var next = TaskMachine.Apply(State, e);
        if (ReferenceEquals(next, State))
        {
            LogIgnored(Key, State.Attempt, e.GetType().Name, State.Status);
            return;
        }

        // Nobody is shown what is not saved yet: a final status must not be taken back because its write failed.
        var from = State.Status;
        var row = new GrainState<TaskState> { State = next, ETag = store.ETag, RecordExists = store.RecordExists };
        try
        {
            await storage.WriteStateAsync(StoreNames.Task, this.GetGrainId(), row);
            store = row;
        }
        catch
        {
            // A failed write may have landed: reload, never guess.
            DeactivateOnIdle();
            throw;
        }

        LogApplied(Key, next.Attempt, from, next.Status, next.Slot?.InstanceId ?? "");
        contactLostSince = next.Status.HoldsSlot() ? contactLostSince : null;
        nextRunCheck = clock.GetUtcNow() + RunCheckPeriod;
    }

    private Task OnTimeAsync()
    {
        var now = clock.GetUtcNow();
        // A run that its node has not confirmed yet is not overdue: its own clock has not started.
        var unconfirmed = State.Status is GpuTaskStatus.Running && State.Pending.HasFlag(TaskEffects.StartRun);
        if (State.Outbox is not null)
        {
            State = State with { Pending = State.WakeAt <= now ? State.Pending | TaskEffects.Notify : State.Pending };
        }
        else if (State.WakeAt <= now && !unconfirmed)
        {
            return ApplyAsync(new WakeTimeReached(now, KnownFor()));
        }

        // The order is idempotent, so handing it over again is the question whether the node still has the run.
        if (State.Status is GpuTaskStatus.Running && nextRunCheck <= now)
        {
            nextRunCheck = now + RunCheckPeriod;
            State = State with { Pending = State.Pending | TaskEffects.StartRun };
        }

        Act();
        return Task.CompletedTask;
    }

    /// <summary>Runs what is pending. Queue messages are one-way and cost nothing; the node is talked to in the background.</summary>
    private void Act()
    {
        SendQueueMessages();
        if (!telling && State.Outbox is not null && State.Pending.HasFlag(TaskEffects.Notify))
        {
            TellDestinationAsync().Ignore();
        }

        ScheduleTimer();
        if (!acting && NextNodeEffect() is not null)
        {
            TalkToNodeAsync().Ignore();
        }

        if (State.Status.IsFinal() && timer is null)
        {
            // Nothing will happen to it any more, or not soon; the sweeper wakes it then.
            DeactivateOnIdle();
        }
    }

    private async Task TellDestinationAsync()
    {
        telling = true;
        try
        {
            State = State with { Pending = State.Pending & ~TaskEffects.Notify };
            DeliveryFault? fault;
            try
            {
                fault = await destinations.DeliverAsync(State);
            }
            catch (Exception exception)
            {
                LogDeliveryFailed(exception, Key);
                fault = new DeliveryFault(Final: false, "The platform itself could not deliver it; its log says why.");
            }

            if (fault is { Tried: true })
            {
                LogNotDelivered(Key, fault.Final, fault.Message);
            }

            var now = clock.GetUtcNow();
            await ApplyAsync(fault is null ? new DestinationTold(now) : new DestinationMissed(now, fault, now + (retention.Value.KeptFor(recorded: true) ?? ForEver)));
        }
        finally
        {
            telling = false;
            Act();
        }
    }

    /// <summary>One order at a time: a run and its cancel must not overtake each other.</summary>
    private async Task TalkToNodeAsync()
    {
        acting = true;
        SlotAssignment? slot = null;
        try
        {
            while (NextNodeEffect() is { } effect)
            {
                slot = State.Slot;
                var attempt = State.Attempt;
                var e = await GiveOrderAsync(effect);
                if (State.Attempt == attempt)
                {
                    State = State with { Pending = State.Pending & ~effect };
                }

                if (e is not null)
                {
                    await ApplyAsync(e);
                }
            }
        }
        catch (Exception exception)
        {
            LogEffectFailed(exception, Key, State.Attempt, State.Pending);
            if (exception is NodeUnavailableException or TimeoutException or OrleansException)
            {
                contactLostSince ??= clock.GetUtcNow();
                await GiveUpIfLostAsync(slot);
            }
        }
        finally
        {
            acting = false;
            ScheduleTimer();
        }
    }

    /// <summary>
    /// A run on a silent node is given up on proof alone: its instance has no lease any more, or it has ended itself for want
    /// of contact. The region knows when it last heard of the node, and the instance hears of nobody later than that.
    /// </summary>
    /// <param name="slot">Where the run was asked for in vain; it may have been found elsewhere since.</param>
    private async Task GiveUpIfLostAsync(SlotAssignment? slot)
    {
        var attempt = State.Attempt;
        if (slot is null || slot != State.Slot || !State.Status.HoldsSlot())
        {
            return;
        }

        try
        {
            var contact = await GrainFactory.Get<IRegionQuotaGrain>(region.Value.Region).GetContact(slot.Node, slot.InstanceId);
            if (!contact.Leased || (slot.NodeLostTimeout > TimeSpan.Zero && contact.Silence >= slot.NodeLostTimeout + LostMargin))
            {
                LogGivenUp(Key, attempt, slot.Node, contact.Leased, contact.Silence.TotalSeconds);
                await ApplyAsync(new RunLost(clock.GetUtcNow(), attempt));
            }
        }
        catch (Exception exception)
        {
            LogEffectFailed(exception, Key, attempt, State.Pending);
        }
    }

    private TaskEffects? NextNodeEffect() =>
        State.Pending.HasFlag(TaskEffects.StartRun) ? TaskEffects.StartRun :
        State.Pending.HasFlag(TaskEffects.CancelRun) ? TaskEffects.CancelRun : null;

    private async Task<TaskEvent?> GiveOrderAsync(TaskEffects effect)
    {
        var (slot, attempt) = (State.Slot!, State.Attempt);
        var runId = TaskViews.RunId(Key.TaskId, attempt);
        var node = GrainFactory.Get<INodeGrain>(slot.Node);
        if (effect is TaskEffects.StartRun)
        {
            var outcome = await node.StartRun(RunOrderFor(slot, runId));
            contactLostSince = null;
            KnownFor();
            return outcome switch
            {
                StartRunOutcome.Started => null,
                StartRunOutcome.Busy => new RunLost(clock.GetUtcNow(), attempt, "It did not begin: its instance had no place for it."),
                _ => new RunLost(clock.GetUtcNow(), attempt),
            };
        }

        var known = await node.CancelRun(slot.InstanceId, runId);
        contactLostSince = null;
        return known ? null : new RunLost(clock.GetUtcNow(), attempt);
    }

    private TimeSpan KnownFor()
    {
        if (runKnown.Attempt != State.Attempt)
        {
            runKnown = (State.Attempt, clock.GetTimestamp());
        }

        return clock.GetElapsedTime(runKnown.At);
    }

    private RunOrder RunOrderFor(SlotAssignment slot, string runId)
    {
        var submission = State.Submission!;
        return new RunOrder
        {
            RunId = runId,
            InstanceId = slot.InstanceId,
            Task = Key,
            Attempt = State.Attempt,
            RequestId = submission.RequestId,
            Qualifier = submission.Qualifier,
            RetryCount = State.Retries,
            Limit = slot.RunLimit,
            Payload = submission.Payload,
            Http = submission.Http,
            Recorded = submission.Recorded,
        };
    }

    private void SendQueueMessages()
    {
        const TaskEffects QueueEffects = TaskEffects.JoinQueue | TaskEffects.LeaveQueue | TaskEffects.FreeSlot;
        var pending = State.Pending & QueueEffects;
        if (pending is TaskEffects.None)
        {
            return;
        }

        var dispatcher = GrainFactory.Get<IDispatcherGrain>(new DefinitionKey(Key.Account, Key.Function, State.Submission!.Version).ToString());
        if (pending.HasFlag(TaskEffects.JoinQueue))
        {
            dispatcher.Offer(new Ticket(Key.TaskId, State.Submission!.Priority, State.EnqueuedAt)).Ignore();
        }

        if (pending.HasFlag(TaskEffects.LeaveQueue))
        {
            dispatcher.Withdraw(Key.TaskId).Ignore();
        }

        if (pending.HasFlag(TaskEffects.FreeSlot) && State.Slot is { } slot)
        {
            dispatcher.Release(slot.InstanceId, TaskViews.RunId(Key.TaskId, State.Attempt)).Ignore();
        }

        State = State with { Pending = State.Pending & ~QueueEffects };
    }

    /// <summary>Sets the timer to whatever comes next. Waiting tasks have none: the sweeper wakes them, so they need no activation.</summary>
    private void ScheduleTimer(TimeSpan? due = null)
    {
        var now = clock.GetUtcNow();
        var next = due ?? State.Status switch
        {
            _ when NextNodeEffect() is not null => RetryEffectAfter,
            GpuTaskStatus.Retrying => State.WakeAt - now,
            GpuTaskStatus.Running => Earlier(State.WakeAt, nextRunCheck) - now,
            GpuTaskStatus.Stopping => State.WakeAt - now,
            _ when telling => RetryEffectAfter,
            _ when State.Outbox is not null && State.WakeAt - now < ShortPause => State.WakeAt - now,
            _ => null,
        };
        if (next is null)
        {
            timer?.Dispose();
            timer = null;
            return;
        }

        var wait = next.Value < TimeSpan.Zero ? TimeSpan.Zero : next.Value;
        if (timer is null)
        {
            timer = this.RegisterGrainTimer(_ => OnTimeAsync(), new GrainTimerCreationOptions(wait, Timeout.InfiniteTimeSpan) { KeepAlive = true });
        }
        else
        {
            timer.Change(wait, Timeout.InfiniteTimeSpan);
        }
    }

    private static DateTimeOffset? Earlier(DateTimeOffset? one, DateTimeOffset other) => one < other ? one : other;
}
