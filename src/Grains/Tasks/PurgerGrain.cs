using GpuTasks.Store;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace GpuTasks.Tasks;

/// <summary>
/// Deletes ended tasks, entries of the audit log and messages of topics once they are no longer kept: one small batch at a time, with pauses so
/// that it never takes more than a small part of what the store can do. It remembers nothing; the store's index says what is next.
/// </summary>
[GrainType("purger")]
public sealed partial class PurgerGrain(
    ITaskPurge tasks,
    IAuditLog audit,
    ITopicStore topics,
    IOptions<RetentionOptions> options,
    [FromKeyedServices(TimeProviderNames.Grains)] TimeProvider clock,
    ILogger<PurgerGrain> logger) : Grain, IPurgerGrain, IRemindable
{
    /// <summary>Key of the one purger.</summary>
    public const string Key = "purger";

    /// <summary>Pause after a batch that was full, in the batch's own time.</summary>
    private const int PauseFactor = 4;

    private static readonly TimeSpan ShortestPause = TimeSpan.FromMilliseconds(10);

    private IGrainTimer? timer;

    private TimeSpan Period => TimeSpan.FromSeconds(options.Value.PeriodSeconds);

    /// <inheritdoc />
    public async Task EnsureRunning(CancellationToken cancellationToken = default)
    {
        if (timer is null)
        {
            timer = this.RegisterGrainTimer(PurgeAsync, new GrainTimerCreationOptions(TimeSpan.Zero, Timeout.InfiniteTimeSpan) { KeepAlive = true });
            await this.RegisterOrUpdateReminder(Key, TimeSpan.FromMinutes(5), TimeSpan.FromMinutes(5), CancellationToken.None);
        }
    }

    /// <inheritdoc />
    public Task ReceiveReminder(string reminderName, TickStatus status) => EnsureRunning();

    private async Task PurgeAsync(CancellationToken cancellationToken)
    {
        var pause = Period;
        try
        {
            var begun = clock.GetTimestamp();
            var isMore = await PurgeAsync(recorded: true, cancellationToken) | await PurgeAsync(recorded: false, cancellationToken)
                | await audit.PurgeAsync(clock.GetUtcNow() - TimeSpan.FromDays(options.Value.AuditDays), options.Value.BatchRows, cancellationToken) == options.Value.BatchRows
                | await topics.PurgeAsync(clock.GetUtcNow() - options.Value.KeptFor(recorded: true), options.Value.TopicMessages, options.Value.BatchRows, cancellationToken);
            if (isMore)
            {
                var rest = PauseFactor * clock.GetElapsedTime(begun);
                pause = rest < ShortestPause ? ShortestPause : rest < Period ? rest : Period;
            }
        }
        catch (Exception exception)
        {
            LogFailed(exception);
        }

        timer?.Change(pause, Timeout.InfiniteTimeSpan);
    }

    /// <returns>True if there may be more.</returns>
    private async Task<bool> PurgeAsync(bool recorded, CancellationToken cancellationToken)
    {
        if (options.Value.KeptFor(recorded) is not { } kept)
        {
            return false;
        }

        var limit = options.Value.BatchRows;
        var purged = await tasks.PurgeAsync(recorded, clock.GetUtcNow() - kept, limit, cancellationToken);
        if (purged > 0)
        {
            LogPurged(purged, recorded, kept);
        }

        return purged == limit;
    }

    [LoggerMessage(LogLevel.Debug, "{Count} ended tasks (recorded: {Recorded}) were purged, kept for {Kept}")]
    private partial void LogPurged(int count, bool recorded, TimeSpan kept);

    [LoggerMessage(LogLevel.Warning, "Ended tasks could not be purged; it will be tried again")]
    private partial void LogFailed(Exception exception);
}
