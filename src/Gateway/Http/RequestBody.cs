using System.Buffers;
using GpuTasks.Gateway.Signing;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Options;

namespace GpuTasks.Gateway.Http;

/// <summary>Bounds the memory of request bodies over all callers.</summary>
internal sealed class BodyBudget(IOptions<GatewayOptions> options)
{
    private readonly long limit = options.Value.MaxBufferedBytes;
    private long held;

    /// <summary>Bytes held now.</summary>
    public long Held => Interlocked.Read(ref held);

    public Share Open() => new(this);

    /// <summary>One request's part; given back when disposed.</summary>
    internal sealed class Share(BodyBudget budget) : IDisposable
    {
        private long bytes;

        /// <exception cref="ApiException">All callers together hold too much.</exception>
        public void Take(long count)
        {
            bytes += count;
            if (Interlocked.Add(ref budget.held, count) > budget.limit)
            {
                throw new ApiException(503, "ResourceThrottled", "Too many request bodies are being read at once; repeat the call later.") { RetryAfterSeconds = 1 };
            }
        }

        public void Dispose()
        {
            Interlocked.Add(ref budget.held, -bytes);
            bytes = 0;
        }
    }
}

/// <summary>Reads bodies whole, within a limit, whether or not their length was announced.</summary>
internal static class RequestBody
{
    /// <exception cref="ApiException">Too long, or not what was signed.</exception>
    public static async Task<byte[]> ReadAsync(HttpContext http, int limit, string? signedHash, BodyBudget.Share share)
    {
        // Our own limit differs by call, so the server's would only cut with an answer of its own.
        if (http.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } server)
        {
            server.MaxRequestBodySize = null;
        }

        if (http.Request.ContentLength > limit)
        {
            throw ApiErrors.EntityTooLarge(limit);
        }

        var body = await ReadToEndAsync(http, limit, share);
        if (signedHash is not null && !Acs3Signature.SameText(Acs3Signature.Hash(body), signedHash))
        {
            throw ApiErrors.SignatureNotMatch("x-acs-content-sha256 is not the hash of the body that arrived.");
        }

        return body;
    }

    private static async Task<byte[]> ReadToEndAsync(HttpContext http, int limit, BodyBudget.Share share)
    {
        var reader = http.Request.BodyReader;
        var body = new ArrayBufferWriter<byte>(Math.Max(256, (int)(http.Request.ContentLength ?? 0)));
        while (true)
        {
            var read = await reader.ReadAsync(http.RequestAborted);
            if (body.WrittenCount + read.Buffer.Length > limit)
            {
                reader.AdvanceTo(read.Buffer.End);
                throw ApiErrors.EntityTooLarge(limit);
            }

            share.Take(read.Buffer.Length);
            foreach (var part in read.Buffer)
            {
                body.Write(part.Span);
            }

            reader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted)
            {
                return body.WrittenSpan.ToArray();
            }
        }
    }
}
