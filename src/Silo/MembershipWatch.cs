namespace GpuTasks.Hosting;

/// <summary>
/// Reads the cluster's members again and again, also while the store cannot be reached. A silo that was cut off cannot be told
/// that the others declared it dead; it ends, to be started anew, once it reads so. Orleans itself reads with pauses that grow
/// with each failure, which left a node useless for half a minute after its link was up again.
/// </summary>
/// <param name="membership">Members.</param>
/// <param name="logger">Log.</param>
internal sealed partial class MembershipWatch(IClusterMembershipService membership, ILogger<MembershipWatch> logger) : BackgroundService
{
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(1);

    /// <inheritdoc />
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(Period);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                await membership.Refresh(default, stoppingToken);
            }
            catch (Exception exception) when (!stoppingToken.IsCancellationRequested)
            {
                LogNotRead(exception.Message);
            }
        }
    }

    [LoggerMessage(LogLevel.Debug, "The cluster's members could not be read: {Fault}")]
    private partial void LogNotRead(string fault);
}
