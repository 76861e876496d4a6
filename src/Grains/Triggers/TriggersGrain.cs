using System.Text.Json;
using System.Text.Json.Nodes;
using GpuTasks.Functions;
using GpuTasks.Store;
using GpuTasks.Tasks;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Triggers;

/// <summary>
/// Keeps a function's triggers and fires its timers: <see cref="TriggerTable"/> decides. A firing is a task whose id is made of
/// trigger and time, so that a repeat after a crash is refused as a duplicate; only once it is submitted the next time is
/// written. A reminder brings the grain back within a minute wherever its silo went.
/// </summary>
[GrainType("triggers")]
public sealed partial class TriggersGrain(
    [PersistentState(StoreNames.Triggers, StoreNames.Provider)] IPersistentState<TriggersState> store,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    ILogger<TriggersGrain> logger) : Grain, ITriggersGrain, IRemindable
{
    private const string ReminderName = "timers";
    private static readonly TimeSpan ReminderPeriod = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan Longest = TimeSpan.FromHours(1);
    private static readonly TimeSpan AfterFailure = TimeSpan.FromSeconds(5);

    private IGrainTimer? timer;

    private bool HasTimers => store.State.Triggers.Any(trigger => trigger.Timer?.NextAt is not null);

    /// <inheritdoc />
    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        Arm();
        return Task.CompletedTask;
    }

    /// <inheritdoc />
    public Task<TriggerAnswer> Create(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default) =>
        ApplyAsync(TriggerTable.Create(store.State, functionId, spec, Guid.NewGuid().ToString(), clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<TriggerAnswer> Update(string functionId, TriggerSpec spec, CancellationToken cancellationToken = default) =>
        ApplyAsync(TriggerTable.Update(store.State, functionId, spec, clock.GetUtcNow()));

    /// <inheritdoc />
    public Task<TriggerAnswer> Delete(string functionId, string name, CancellationToken cancellationToken = default) =>
        ApplyAsync(TriggerTable.Delete(store.State, functionId, name));

    /// <inheritdoc />
    public Task<TriggerSnapshot?> Get(string functionId, string name, CancellationToken cancellationToken = default) =>
        Task.FromResult(TriggerTable.Of(store.State, functionId).Triggers.FirstOrDefault(trigger => trigger.Spec.Name == name));

    /// <inheritdoc />
    public Task<IReadOnlyList<TriggerSnapshot>> List(string functionId, CancellationToken cancellationToken = default) =>
        Task.FromResult(TriggerTable.Of(store.State, functionId).Triggers);

    /// <inheritdoc />
    public Task FunctionDeleted(string functionId, CancellationToken cancellationToken = default) =>
        store.State.FunctionId == functionId ? SaveAsync(new TriggersState()) : Task.CompletedTask;

    /// <inheritdoc />
    public async Task ReceiveReminder(string reminderName, TickStatus status)
    {
        if (HasTimers)
        {
            Arm();
        }
        else if (await this.GetReminder(ReminderName) is { } reminder)
        {
            await this.UnregisterReminder(reminder);
        }
    }

    private async Task<TriggerAnswer> ApplyAsync((TriggersState Next, TriggerAnswer Answer) change)
    {
        if (change.Answer.Change == TriggerChange.Done)
        {
            if (TriggerTable.NextAt(change.Next) is not null)
            {
                // Before the state: a reminder too many goes at its first tick, one too few would stop the timers.
                await this.RegisterOrUpdateReminder(ReminderName, ReminderPeriod, ReminderPeriod, CancellationToken.None);
            }

            await SaveAsync(change.Next);
        }

        return change.Answer;
    }

    private async Task SaveAsync(TriggersState next)
    {
        store.State = next;
        try
        {
            if (next.Triggers.Count > 0)
            {
                await store.WriteStateAsync(CancellationToken.None);
            }
            else if (store.RecordExists)
            {
                await store.ClearStateAsync(CancellationToken.None);
                store.State = new TriggersState();
            }
        }
        catch
        {
            // A failed write may have landed: reload, never guess.
            this.DeactivateOnIdle();
            throw;
        }

        Arm();
    }

    /// <summary>Sets the timer to the next time that something is due.</summary>
    private void Arm(TimeSpan? atLeast = null)
    {
        if (TriggerTable.NextAt(store.State) is not { } next)
        {
            timer?.Dispose();
            timer = null;
            return;
        }

        var wait = next - clock.GetUtcNow();
        wait = wait < (atLeast ?? TimeSpan.Zero) ? atLeast ?? TimeSpan.Zero : wait > Longest ? Longest : wait;
        if (timer is null)
        {
            timer = this.RegisterGrainTimer(FireAsync, new GrainTimerCreationOptions(wait, Timeout.InfiniteTimeSpan) { KeepAlive = true });
        }
        else
        {
            timer.Change(wait, Timeout.InfiniteTimeSpan);
        }
    }

    private async Task FireAsync(CancellationToken cancellationToken)
    {
        TimeSpan? pause = null;
        foreach (var firing in TriggerTable.Due(store.State, clock.GetUtcNow()))
        {
            try
            {
                if (await GrainFactory.GetGrain<IFunctionGrain>(this.GetPrimaryKeyString()).Get(cancellationToken) is not { } function
                    || function.FunctionId != store.State.FunctionId)
                {
                    // The word of the deletion may have been lost.
                    await SaveAsync(new TriggersState());
                    return;
                }

                await SubmitAsync(function, firing);
            }
            catch (Exception exception)
            {
                // It stays due, under the same id.
                LogNotFired(exception, this.GetPrimaryKeyString(), firing.Trigger.Spec.Name, firing.TaskId);
                store.State = TriggerTable.NotFired(store.State, firing, exception.Message);
                pause = AfterFailure;
                continue;
            }

            if (firing.CaughtUp)
            {
                LogCaughtUp(this.GetPrimaryKeyString(), firing.Trigger.Spec.Name, firing.DueAt, firing.Late, firing.Skipped);
            }

            await SaveAsync(TriggerTable.Fired(store.State, firing, clock.GetUtcNow()));
        }

        Arm(pause);
    }

    private async Task SubmitAsync(FunctionSnapshot function, Firing firing)
    {
        var spec = firing.Trigger.Spec;
        if (!function.TryResolve(spec.Qualifier, firing.TaskId, out var version))
        {
            throw new InvalidOperationException($"Qualifier '{spec.Qualifier}' of trigger '{spec.Name}' does not exist any more.");
        }

        var config = function.AsyncConfigs.GetValueOrDefault(spec.Qualifier) ?? new AsyncInvokeConfig();
        var body = new JsonObject
        {
            ["triggerTime"] = firing.DueAt.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
            ["triggerName"] = spec.Name,
            ["payload"] = spec.Timer!.Payload,
        };
        if (firing.CaughtUp)
        {
            body["caughtUp"] = true;
            body["skippedFirings"] = firing.Skipped;
        }

        // A duplicate means that an earlier try of this firing came through.
        await GrainFactory.GetGrain<ITaskGrain>($"{this.GetPrimaryKeyString()}/{firing.TaskId}").Submit(new TaskSubmission
        {
            RequestId = firing.TaskId,
            Qualifier = spec.Qualifier,
            Version = version,
            Payload = JsonSerializer.SerializeToUtf8Bytes(body),
            Recorded = config.TaskMode,
            MaxRetryAttempts = config.MaxRetryAttempts,
            MaxEventAge = TimeSpan.FromSeconds(config.MaxEventAgeSeconds),
            OnSuccess = config.OnSuccess,
            OnFailure = config.OnFailure,
        });
    }

    [LoggerMessage(LogLevel.Warning, "Timer {Trigger} of {Function} could not fire and will be tried again as task {TaskId}")]
    private partial void LogNotFired(Exception exception, string function, string trigger, string taskId);

    [LoggerMessage(LogLevel.Warning, "Timer {Trigger} of {Function} made up for its firing of {DueAt}, {Late} late; {Skipped} later ones are left out")]
    private partial void LogCaughtUp(string function, string trigger, DateTimeOffset dueAt, TimeSpan late, int skipped);
}
