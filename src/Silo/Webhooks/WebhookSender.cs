using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Net.Sockets;
using System.Text;
using GpuTasks.Destinations;
using Microsoft.Extensions.Options;

namespace GpuTasks.Webhooks;

/// <summary>
/// Sends webhooks: no redirect, proxy or cookie; each connection goes to an address that was checked, the one that the name
/// was looked up to for it, so that a name cannot mean one address when it is checked and another when it is connected to.
/// </summary>
internal sealed class WebhookSender : IWebhookSender, IDisposable
{
    private const int MaxShownAnswer = 256;

    private static readonly MediaTypeHeaderValue Json = new("application/json") { CharSet = "utf-8" };

    private readonly WebhookOptions options;
    private readonly AddressRules rules;
    private readonly TimeProvider wall;
    private readonly DeliveryLanes lanes;
    private readonly Func<string, CancellationToken, Task<IPAddress[]>> lookUp;
    private readonly SocketsHttpHandler handler;
    private readonly HttpClient http;

    /// <param name="options">The operator's rules.</param>
    /// <param name="clock">Clock of pauses.</param>
    /// <param name="lookUp">Looks names up; the machine's resolver if left out.</param>
    /// <param name="trust">Which certificates are trusted; those that the machine trusts if left out.</param>
    /// <param name="wall">Clock of what is signed, which receivers compare with theirs; the machine's if left out.</param>
    public WebhookSender(
        IOptions<WebhookOptions> options,
        TimeProvider clock,
        Func<string, CancellationToken, Task<IPAddress[]>>? lookUp = null,
        RemoteCertificateValidationCallback? trust = null,
        TimeProvider? wall = null)
    {
        this.options = options.Value;
        this.wall = wall ?? TimeProvider.System;
        this.lookUp = lookUp ?? Dns.GetHostAddressesAsync;
        rules = new AddressRules(this.options.AllowedRanges.Select(IPNetwork.Parse));
        lanes = new DeliveryLanes(clock, this.options.PerTarget, this.options.PerAccount);
        handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseProxy = false,
            UseCookies = false,
            AutomaticDecompression = DecompressionMethods.None,
            ConnectCallback = ConnectAsync,

            // A connection outlives the request that began it.
            ConnectTimeout = TimeSpan.FromSeconds(this.options.TimeoutSeconds),
            SslOptions = new SslClientAuthenticationOptions { RemoteCertificateValidationCallback = trust },
            PooledConnectionLifetime = TimeSpan.FromMinutes(1),
            PooledConnectionIdleTimeout = TimeSpan.FromSeconds(10),
            MaxConnectionsPerServer = 1_024,
            MaxResponseHeadersLength = 16,
            MaxResponseDrainSize = 16 * 1_024,
            ResponseDrainTimeout = TimeSpan.FromSeconds(1),
        };
        http = new HttpClient(handler, disposeHandler: false) { Timeout = Timeout.InfiniteTimeSpan };
    }

    public void Dispose()
    {
        http.Dispose();
        handler.Dispose();
    }

    public string? Refuse(Uri url) =>
        url.Scheme != Uri.UriSchemeHttps && !options.AllowHttp ? "must begin with https://; the operator has not allowed http://"
        : IPAddress.TryParse(url.IdnHost, out var address) && !rules.Permits(address) ? $"must not lead to {address}, which is no public address and not allowed by the operator"
        : null;

    public async Task<DeliveryFault?> SendAsync(WebhookCall call)
    {
        var (place, busy) = await lanes.EnterAsync(call.Account, call.Url.Authority);
        if (place is null)
        {
            return new DeliveryFault(Final: false, "Too much is on its way to this receiver, or it is away.") { Tried = false, RetryAfter = busy };
        }

        var fault = new DeliveryFault(Final: false, "The platform itself could not send it.");
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.TimeoutSeconds));
            try
            {
                fault = await SendAsync(call, limit.Token);
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException or IOException)
            {
                fault = FaultOf(e, limit.IsCancellationRequested);
            }

            return fault;
        }
        finally
        {
            place.Leave(fault is { IsAway: true } ? LaneReport.Away : LaneReport.Answered, fault?.RetryAfter);
        }
    }

    private async Task<DeliveryFault?> SendAsync(WebhookCall call, CancellationToken cancellationToken)
    {
        var now = wall.GetUtcNow();
        using var request = new HttpRequestMessage(HttpMethod.Post, call.Url) { Content = new ByteArrayContent(call.Body) };
        request.Content.Headers.ContentType = Json;
        request.Headers.UserAgent.ParseAdd("Orleans.GpuTasks");
        request.Headers.Add("webhook-id", call.Id);
        request.Headers.Add("webhook-timestamp", WebhookSignature.Timestamp(now));
        request.Headers.Add("webhook-signature", WebhookSignature.Sign(call.Secrets, call.Id, now, call.Body));
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        if (response.IsSuccessStatusCode)
        {
            return null;
        }

        var status = (int)response.StatusCode;
        var text = status is >= 300 and < 400
            ? "Redirects are not followed."
            : await BeginningAsync(response.Content, cancellationToken);
        return new DeliveryFault(Final: response.StatusCode is HttpStatusCode.Gone, $"The receiver answered {status.ToString(CultureInfo.InvariantCulture)}. {text}".TrimEnd())
        {
            RetryAfter = RetryAfter(response.Headers.RetryAfter, now),
            IsAway = status is 429 or >= 500,
        };
    }

    /// <summary>What the receiver says in words: a little of it, and nothing that a terminal would act on.</summary>
    private static async Task<string> BeginningAsync(HttpContent content, CancellationToken cancellationToken)
    {
        var bytes = new byte[MaxShownAnswer];
        await using var stream = await content.ReadAsStreamAsync(cancellationToken);
        var length = await stream.ReadAtLeastAsync(bytes, bytes.Length, throwOnEndOfStream: false, cancellationToken);
        return string.Concat(Encoding.UTF8.GetString(bytes, 0, length).Select(c => char.IsControl(c) ? ' ' : c)).Trim();
    }

    private static TimeSpan? RetryAfter(RetryConditionHeaderValue? value, DateTimeOffset now) =>
        (value?.Delta ?? (value?.Date - now)) is { } wait && wait > TimeSpan.Zero ? wait : null;

    private DeliveryFault FaultOf(Exception exception, bool isTimeout)
    {
        for (var e = exception; e is not null; e = e.InnerException!)
        {
            if (e is AddressRefusedException)
            {
                return new DeliveryFault(Final: true, e.Message);
            }
        }

        return new DeliveryFault(Final: false, isTimeout
            ? $"The receiver did not answer within {options.TimeoutSeconds.ToString(CultureInfo.InvariantCulture)} s."
            : $"The receiver could not be reached: {exception.GetBaseException().Message}")
        {
            IsAway = true,
        };
    }

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellationToken)
    {
        var (host, port) = (context.DnsEndPoint.Host, context.DnsEndPoint.Port);
        var addresses = IPAddress.TryParse(host, out var literal) ? [literal] : await lookUp(host, cancellationToken);
        var permitted = addresses.Where(rules.Permits).ToArray();
        if (permitted.Length == 0)
        {
            throw addresses.Length == 0
                ? new IOException($"'{host}' has no address.")
                : new AddressRefusedException($"'{host}' leads to no public address, nor to one that the operator allows.");
        }

        var tried = new List<Exception>();
        foreach (var address in permitted)
        {
            Socket? socket = null;
            try
            {
                socket = new Socket(SocketType.Stream, ProtocolType.Tcp);
                socket.NoDelay = true;
                await socket.ConnectAsync(new IPEndPoint(address, port), cancellationToken);
                var stream = new NetworkStream(socket, ownsSocket: true);
                socket = null;
                return stream;
            }
            catch (Exception e) when (!cancellationToken.IsCancellationRequested)
            {
                tried.Add(e);
            }
            finally
            {
                socket?.Dispose();
            }
        }

        throw tried[0];
    }

    /// <summary>A name that leads nowhere where webhooks may go.</summary>
    private sealed class AddressRefusedException(string message) : IOException(message);
}
