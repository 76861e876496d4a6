using GpuTasks.Gateway.Signing;
using GpuTasks.Security;

namespace GpuTasks.Gateway.Http;

/// <summary>
/// Keeps who changed what: durable before the answer leaves, where the store answers. One that could not be kept goes to the
/// process's log instead, since the change itself has happened by then.
/// </summary>
internal sealed partial class AuditTrail(IGrainFactory grains, TimeProvider clock, ILogger<AuditTrail> logger)
{
    private const int MaxResource = 512;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    /// <summary>Has a change kept if it succeeds.</summary>
    /// <param name="http">Request.</param>
    /// <param name="caller">Who makes it.</param>
    /// <param name="action">What it is.</param>
    public void Watch(HttpContext http, Caller caller, string action) => http.Response.OnStarting(async () =>
    {
        if (http.Response.StatusCode >= 400)
        {
            return;
        }

        var resource = $"{http.Request.Path}{http.Request.QueryString}";
        var entry = new AuditEntry
        {
            At = clock.GetUtcNow(),
            RequestId = RequestShell.RequestIdOf(http),
            Account = caller.Account ?? http.Request.RouteValues["account"] as string ?? "",
            Actor = caller.Actor,
            Action = action,
            Resource = resource.Length <= MaxResource ? resource : resource[..MaxResource],
            Source = http.Connection.RemoteIpAddress?.ToString() ?? "",
            Status = http.Response.StatusCode,
        };
        try
        {
            await grains.GetGrain<IAuditGrain>("audit").Append(entry, CancellationToken.None).WaitAsync(Patience);
        }
        catch (Exception e)
        {
            LogNotKept(e, entry);
        }
    });

    [LoggerMessage(Level = LogLevel.Error, Message = "An entry of the audit log could not be kept: {Entry}")]
    private partial void LogNotKept(Exception e, AuditEntry entry);
}
