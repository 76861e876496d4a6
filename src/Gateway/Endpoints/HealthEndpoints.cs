using GpuTasks.Functions;
using GpuTasks.Gateway.Http;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// <c>/healthz</c>: the process answers. <c>/readyz</c>: a call through cluster and store comes back. Both without key,
/// so the second is asked at most once a second, however often it is called.
/// </summary>
internal sealed class HealthEndpoints(IGrainFactory grains, TimeProvider clock)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Age = TimeSpan.FromSeconds(1);
    private readonly Lock gate = new();
    private Task<bool> answer = Task.FromResult(false);
    private long askedAt = long.MinValue;

    public void Map(IEndpointRouteBuilder routes)
    {
        string[] methods = ["GET", "HEAD"];
        routes.MapMethods("/healthz", methods, http => WriteAsync(http, StatusCodes.Status200OK, "ok"));
        routes.MapMethods("/readyz", methods, async http =>
        {
            if (!await ReadyAsync())
            {
                throw ApiErrors.Unavailable();
            }

            await WriteAsync(http, StatusCodes.Status200OK, "ready");
        });
    }

    private Task<bool> ReadyAsync()
    {
        lock (gate)
        {
            if (askedAt == long.MinValue || (answer.IsCompleted && clock.GetElapsedTime(askedAt) >= Age))
            {
                askedAt = clock.GetTimestamp();
                answer = AskAsync();
            }

            return answer;
        }
    }

    private async Task<bool> AskAsync()
    {
        // Off the lock before anything is called.
        await Task.Yield();
        using var patience = new CancellationTokenSource(Patience, clock);
        try
        {
            await grains.GetGrain<IFunctionQueryGrain>("readyz").List("", null, 1, patience.Token).WaitAsync(patience.Token);
            return true;
        }
        catch (Exception)
        {
            // Whatever it is, it means that callers would not be served; their own calls log it.
            return false;
        }
    }

    private static Task WriteAsync(HttpContext http, int status, string text) => JsonAnswer.WriteAsync(http, status, json =>
    {
        json.WriteStartObject();
        json.WriteString("status", text);
        json.WriteEndObject();
    });
}
