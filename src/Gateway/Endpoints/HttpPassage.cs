using System.Buffers;
using System.Globalization;
using GpuTasks.Gateway.Http;
using GpuTasks.Nodes;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;

namespace GpuTasks.Gateway.Endpoints;

/// <summary>
/// One request of an HTTP trigger on its way to the function, and the answer on its way back. A body of unknown length, or one
/// too long to be held, is handed on while it comes; every other was read before, so that no card waits for its sender.
/// </summary>
/// <param name="http">The caller's side.</param>
/// <param name="head">What the function gets before the body.</param>
/// <param name="wholeBytes">Longest body that is held.</param>
/// <param name="share">What this request may hold.</param>
/// <param name="addHeaders">Adds the trigger's own headers to the answer.</param>
internal sealed class HttpPassage(HttpContext http, HttpCall head, int wholeBytes, BodyBudget.Share share, Action addHeaders)
{
    /// <summary>Most bytes of a body in one part.</summary>
    public const int PartBytes = 256 << 10;

    /// <summary>Belong to one connection, are made anew, or are the platform's own word.</summary>
    private static readonly HashSet<string> NotPassedOn = new(StringComparer.OrdinalIgnoreCase)
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
        "host", "content-length", "expect", "proxy-connection", "date", "server",
    };

    private byte[]? whole;

    /// <summary>What the function gets before the body.</summary>
    public HttpCall Head => head;

    /// <summary>True for a body that was not read before.</summary>
    public bool BodyFollows { get; init; }

    /// <summary>Length of that body, -1 if its sender did not say.</summary>
    public long BodyBytes => http.Request.ContentLength ?? -1;

    /// <summary>Bytes of the answer's body that were handed back; -1 until it has begun.</summary>
    public long Position { get; private set; } = -1;

    /// <summary>Whether a header goes from one side to the other.</summary>
    public static bool IsPassedOn(string name) => !NotPassedOn.Contains(name) && !name.StartsWith("x-fc-", StringComparison.OrdinalIgnoreCase);

    /// <summary>Whether a request's body is to be handed on while it comes.</summary>
    public static bool Streams(HttpContext http, int wholeBytes) =>
        http.Features.Get<IHttpRequestBodyDetectionFeature>() is { CanHaveBody: true } && !(http.Request.ContentLength <= wholeBytes);

    /// <summary>The body, for a run that cannot stream.</summary>
    /// <exception cref="ApiException">It is too long to be held.</exception>
    public async Task<byte[]> WholeAsync() => whole ??= await ReadWholeAsync(http, wholeBytes, null, share);

    /// <summary>Reads a body whole, within a limit.</summary>
    public static async Task<byte[]> ReadWholeAsync(HttpContext http, int limit, string? hash, BodyBudget.Share share)
    {
        try
        {
            return await RequestBody.ReadAsync(http, limit, hash, share);
        }
        catch (ApiException e) when (e.Code == "EntityTooLarge")
        {
            // The code that the contract has for HTTP triggers.
            throw ApiErrors.InvalidArgument(e.Message);
        }
    }

    /// <summary>Lets a body take as long as its sender likes; the function's limit ends it.</summary>
    public void ExpectSlowBody()
    {
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = null;
        }

        if (http.Features.Get<IHttpMinRequestBodyDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }
    }

    /// <summary>The next part of the body as soon as there is any, and whether the body ends with it.</summary>
    public async Task<(byte[] Data, bool Last)> ReadBodyAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var read = await http.Request.BodyReader.ReadAsync(cancellationToken);
            var part = read.Buffer.Slice(0, Math.Min(read.Buffer.Length, PartBytes));
            var (data, last) = (part.ToArray(), read.IsCompleted && part.Length == read.Buffer.Length);
            http.Request.BodyReader.AdvanceTo(part.End);
            if (data.Length > 0 || last)
            {
                return (data, last);
            }
        }
    }

    /// <summary>Hands back a part of the answer that follows what was handed back before.</summary>
    public async Task TakeAsync(AnswerHead answer, byte[] data, string instanceId, CancellationToken cancellationToken)
    {
        if (Position < 0)
        {
            var length = answer.Headers.Any(IsFraming) ? null : answer.Headers.FirstOrDefault(field => field.Name.Equals("content-length", StringComparison.OrdinalIgnoreCase))?.Value;
            Begin(answer.StatusCode, answer.Headers, instanceId, long.TryParse(length, NumberStyles.None, CultureInfo.InvariantCulture, out var bytes) ? bytes : null);
            await http.Response.Body.FlushAsync(cancellationToken);
        }

        await WriteAsync(data, cancellationToken);

        static bool IsFraming(HttpField field) => field.Name.Equals("transfer-encoding", StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Hands back what is left of an answer that ended well.</summary>
    public async Task EndAsync(RunReport report, CancellationToken cancellationToken)
    {
        if (Position < 0)
        {
            http.Response.Headers["X-Fc-Invocation-Duration"] = ((long)report.Duration.TotalMilliseconds).ToString(CultureInfo.InvariantCulture);
            Begin(report.StatusCode, report.Headers, report.InstanceId, report.Response.Length);
        }

        var known = Position - report.ResponseFrom;
        if (known < 0 || known > report.Response.Length)
        {
            throw new ApiException(502, "UnhandledInvocationError", "A part of the function's answer was lost.");
        }

        await WriteAsync(report.Response.AsMemory((int)known), cancellationToken);
    }

    private bool HasBody => http.Response.StatusCode is not (204 or 205 or 304) && !HttpMethods.IsHead(http.Request.Method);

    private void Begin(int status, IReadOnlyList<HttpField> headers, string instanceId, long? length)
    {
        if (status is < 200 or > 599)
        {
            throw new ApiException(502, "UnhandledInvocationError", $"The function answered with HTTP status {status}.");
        }

        var response = http.Response;
        response.StatusCode = status;
        foreach (var field in headers.Where(field => IsPassedOn(field.Name)))
        {
            response.Headers.Append(field.Name, field.Value);
        }

        addHeaders();

        // A page of a tenant's must not act as this origin, where an operator may be signed in.
        response.Headers.Append("Content-Security-Policy", "sandbox allow-scripts allow-forms allow-popups allow-downloads");
        response.Headers["X-Fc-Instance-Id"] = instanceId;
        response.ContentLength = HasBody ? length : null;
        Position = 0;
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        if (HasBody && !data.IsEmpty)
        {
            await http.Response.Body.WriteAsync(data, cancellationToken);
        }

        Position += data.Length;
    }
}
