namespace GpuTasks.Hosting;

/// <summary>
/// Reads the cluster's members every second while the store cannot be reached. A silo that was cut off cannot be told that the
/// others declared it dead; it ends, to be started anew, once it reads so. Orleans itself reads with pauses that grow with each
/// failure, which left a node useless for half a minute after its link was up again.
/// </summary>
/// <param name="membership">Members.</param>
/// <param name="logger">Log.</param>
internal sealed partial class MembershipWatch(IClusterMembershipService membership, ILogger<MembershipWatch> logger) : BackgroundService
{
    /// <summary>Orleans reads every few seconds while all is well, and each reading costs a row a member: this only has to notice that it is not.</summary>
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(10);

    private static readonly TimeSpan PeriodAfterFailure = TimeSpan.FromSeconds(1);

    /// <inheritdoc />
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var pause = Period;
        while (true)
        {
            await Task.Delay(pause, stoppingToken);
            try
            {
                await membership.Refresh(default, stoppingToken);
                pause = Period;
            }
            catch (Exception exception) when (!stoppingToken.IsCancellationRequested)
            {
                LogNotRead(exception.Message);
                pause = PeriodAfterFailure;
            }
        }
    }

    [LoggerMessage(LogLevel.Debug, "The cluster's members could not be read: {Fault}")]
    private partial void LogNotRead(string fault);
}
