using GpuTasks.Dispatch;
using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace GpuTasks.Tasks;

/// <summary>
/// Looks once a second for tasks whose stored time has come and wakes them, and now and then for functions with waiting
/// tasks, so that their dispatchers live. The index is the only memory; a lost sweep is made up by the next one. A reminder
/// revives it after the loss of its silo.
/// </summary>
[GrainType("sweeper")]
public sealed partial class SweeperGrain(
    ITaskIndex index,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    ILogger<SweeperGrain> logger) : Grain, ISweeperGrain, IRemindable
{
    /// <summary>Key of the one sweeper.</summary>
    public const string Key = "sweeper";

    private const int Batch = 500;
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan FunctionsPeriod = TimeSpan.FromSeconds(5);

    private IGrainTimer? timer;
    private DateTimeOffset nextFunctions;

    // Deliveries stay due while they are made, so each sweep goes on where the last one ended instead of waking the same again.
    private DueDelivery? lastDelivery;

    /// <inheritdoc />
    public async Task EnsureRunning(CancellationToken cancellationToken = default)
    {
        timer ??= this.RegisterGrainTimer(SweepAsync, new GrainTimerCreationOptions(TimeSpan.Zero, Period) { KeepAlive = true });
        await this.RegisterOrUpdateReminder(Key, TimeSpan.FromMinutes(1), TimeSpan.FromMinutes(1), CancellationToken.None);
    }

    /// <inheritdoc />
    public Task ReceiveReminder(string reminderName, TickStatus status) => EnsureRunning();

    private async Task SweepAsync(CancellationToken cancellationToken)
    {
        try
        {
            var now = clock.GetUtcNow();
            var due = await index.DueAsync(now, Batch, cancellationToken);
            var deliveries = await index.DueDeliveriesAsync(now, lastDelivery, Batch, cancellationToken);
            lastDelivery = deliveries.Count == Batch ? deliveries[^1] : null;
            await Task.WhenAll(due.Concat(deliveries.Select(delivery => delivery.Key)).Select(WakeAsync));
            if (now >= nextFunctions)
            {
                nextFunctions = now + FunctionsPeriod;
                foreach (var definition in await index.DefinitionsWaitingAsync(cancellationToken))
                {
                    GrainFactory.GetGrain<IDispatcherGrain>(definition).LeasesChanged(cancellationToken).Ignore();
                }
            }
        }
        catch (Exception exception)
        {
            LogSweepFailed(exception);
        }
    }

    private async Task WakeAsync(TaskKey key)
    {
        try
        {
            await GrainFactory.GetGrain<ITaskGrain>(key.ToString()).Wake();
        }
        catch (Exception exception)
        {
            LogWakeFailed(exception, key);
        }
    }

    [LoggerMessage(LogLevel.Warning, "Sweep failed and will be made up by the next one")]
    private partial void LogSweepFailed(Exception exception);

    [LoggerMessage(LogLevel.Warning, "Task {TaskId} could not be woken and will be tried again")]
    private partial void LogWakeFailed(Exception exception, TaskKey taskId);
}
